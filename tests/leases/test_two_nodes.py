"""Two nodes and a controller beside them, as processes: what is lost is created again, and nothing else ever ends."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.leases.clouds import ProcessCloud, cloud_of
from tests.leases.processes import TTL_S
from tests.leases.words import eventually

Loss = Callable[[ProcessCloud], None]


def killed(cloud: ProcessCloud) -> None:
    """The host of the machine loses its power, and comes back later."""
    cloud.hosts["n1"].kill()
    cloud.runs_on("m", "n2")
    cloud.hosts["n1"].start()
    cloud.node_is("n1", "ready")


def cut_off(cloud: ProcessCloud) -> None:
    """It is cut off from everybody, and back later."""
    cloud.cut_off("n1")
    cloud.runs_on("m", "n2")
    assert cloud.hosts["n1"].machines() == ["stays"]
    cloud.mend()
    cloud.node_is("n1", "ready")


def agent_killed_for_good(cloud: ProcessCloud) -> None:
    """Its agent dies and does not come back."""
    cloud.hosts["n1"].end_agent()
    cloud.runs_on("m", "n2")
    assert cloud.hosts["n1"].machines() == ["stays"]


def test_what_one_of_two_nodes_loses_runs_on_the_other(data_dir: Path) -> None:
    def lose(loss: Loss) -> None:
        root = data_dir / loss.__name__
        root.mkdir()
        with cloud_of(root, "n1", "n2") as cloud:
            cloud.add("m", "n1")
            cloud.add("stays", "n1", "stay")
            cloud.armed()
            loss(cloud)
            assert "m" not in cloud.hosts["n1"].machines()
            assert cloud.client.machines.get("m")["node"] == "n2"

    with ThreadPoolExecutor(3) as pool:
        for done in [pool.submit(lose, loss) for loss in (killed, cut_off, agent_killed_for_good)]:
            done.result()


def test_a_controller_that_two_nodes_lose_stops_nothing(data_dir: Path) -> None:
    with cloud_of(data_dir, "n1", "n2") as cloud:
        cloud.add("m", "n1")
        cloud.add("w", "n2")
        cloud.armed()
        with NeverOff(cloud, ("m", "n1"), ("w", "n2")):
            cloud.cut_controller()
            is_long_over(cloud, "n1", "n2")
            cloud.mend()
            cloud.armed()
            cloud.kill_controller()
            is_long_over(cloud, "n1", "n2")
            cloud.start_controller()
            cloud.armed()
        with NeverOff(cloud, ("m", "n1")):
            cloud.hosts["n2"].kill()
            eventually("n1 is disarmed", lambda: not cloud.hosts["n1"].lease()["armed"])
            cloud.kill_controller()
            is_long_over(cloud, "n1")
            cloud.start_controller()
            cloud.runs_on("m", "n1")
            cloud.hosts["n2"].start()
            cloud.armed()


class NeverOff:
    """See that machines run where they are, for as long as the block runs."""

    def __init__(self, cloud: ProcessCloud, *places: tuple[str, str]) -> None:
        self._cloud, self._places = cloud, places
        self._done, self._off = threading.Event(), list[str]()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        assert self._off == []

    def _look(self) -> None:
        while not self._done.wait(0.1):
            self._off += [each for each, name in self._places if each not in self._cloud.hosts[name].machines()]


def is_long_over(cloud: ProcessCloud, *names: str) -> None:
    """Wait until the leases of these hosts would have ended long ago."""
    for name in names:
        eventually("it is long over", lambda name=name: (cloud.hosts[name].lease()["age_s"] or 0.0) > 2 * TTL_S)
