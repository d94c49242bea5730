"""What ends while its engine ends was not ended by itself: it runs again once the engine is back, whoever was there to see it."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
from tests.host.agent.host_agent import HostAgent, TinyImages, open_directory
from tests.host.docker_archives import RUN_UNTIL_ASKED, shell_image
from tests.host.docker_engines import OwnEngine, own_engine

from garbi.hyper.converge import ENDED_WITH_ENGINE
from garbi.hyper.model.image import ImageType
from garbi.hyper.model.machine import RestartPolicy, State, Wish

pytestmark = [pytest.mark.root, pytest.mark.docker]

SCRIPTS = {
    "polite": RUN_UNTIL_ASKED,
    "brief": "exit 0",
    "on-request": "busybox rm -f /end; while [ ! -e /end ]; do busybox sleep 0.1; done",
}


@pytest.fixture(scope="module")
def engine() -> Iterator[OwnEngine]:
    with own_engine() as made:
        yield made


@pytest.fixture
def host(engine: OwnEngine) -> Iterator[HostAgent]:
    place = open_directory()
    made = HostAgent(TinyImages(place, place), place / "data", drivers={"docker": {"host": engine.host}})
    for name, script in SCRIPTS.items():
        made.agent.images.add(name, ImageType.DOCKER, [shell_image(place / name, script).path.read_bytes()])
    try:
        yield made
    finally:
        made.close()
        engine.sweep(made.cluster_id)


def end_by_itself(host: HostAgent, engine: OwnEngine, machine_id: str) -> None:
    engine.docker("exec", host.daemon_name(machine_id), "/bin/busybox", "touch", "/end")


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("agent", ["there", "away"])
def test_what_ended_with_its_engine_runs_again(
    host: HostAgent, engine: OwnEngine, agent: str, how: signal.Signals
) -> None:
    never = {"mem": 16, "restart": RestartPolicy.NO}
    for machine_id in ("polite", "frozen"):
        host.run(machine_id, "polite", **never)
    host.wish("frozen", Wish.PAUSED)
    host.run("off", "polite", **never)
    host.wish("off", Wish.STOPPED)
    host.add("brief", "brief", **never)
    host.await_state("brief", State.STOPPED)
    if agent == "away":
        host.close()
    engine.stop(how)
    if agent == "there":
        host.await_state("polite", State.UNKNOWN)
    engine.start()
    for machine_id in ("polite", "frozen"):
        assert host.await_state(machine_id, State.RUNNING).restarts == 0
    for machine_id, why in (("off", ""), ("brief", "it ended by itself")):
        assert host.await_state(machine_id, State.STOPPED).reason == why
    told = [each.reason for each in host.agent.events.since(0, 1000) if each.machine_id == "polite"]
    assert ENDED_WITH_ENGINE in told


def test_what_ended_a_moment_before_its_engine_runs_again(host: HostAgent, engine: OwnEngine) -> None:
    host.run("late", "on-request", mem=16, restart=RestartPolicy.NO)
    end_by_itself(host, engine, "late")
    host.await_state("late", State.STOPPED)
    engine.stop()
    engine.start()
    assert host.await_state("late", State.RUNNING).restarts == 0
    end_by_itself(host, engine, "late")
    assert host.await_state("late", State.STOPPED).reason == "it ended by itself"
