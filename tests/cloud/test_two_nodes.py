"""Two hosts and a controller beside them: what one of them loses runs on the other, and nothing else ever ends.

Who truly runs is read from the kernel's processes all the while, whatever agents and controllers believe.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest
from tests.host.agent.host_agent import build_images

from .conftest import at_once
from .hosts import Host, Lab
from .lossy import PAGE, UNIT, LossyCloud, container_id, cut_off
from .sightings import Sightings

pytestmark = [pytest.mark.root, pytest.mark.docker, pytest.mark.timeout(900)]

SETTINGS = {"check_period_s": 1, "unreachable_after_s": 6, "lease_ttl_s": 15, "lease_margin_s": 9}
ELSEWHERE_WITHIN_S = 90.0
"""The promise, for longer leases than these."""
LONG_OVER_S = SETTINGS["lease_ttl_s"] + 10.0
"""So long after its last renewal, whatever a lease ends has ended."""
TO_CONTROLLER = "iptables -{verb} INPUT -s {address} -j DROP; iptables -{verb} OUTPUT -d {address} -j DROP"
"""The controller is beside the hosts, at their network's gateway."""


@pytest.fixture(scope="module")
def cloud(lab: Lab, packaged_image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LossyCloud]:
    """No power program, and SSH proves nothing where a host is off or cut off: the lease must."""
    directory = tmp_path_factory.mktemp("two-nodes")
    hosts = at_once(*[partial(lab.add_host, packaged_image)] * 2)
    cloud = LossyCloud(lab, hosts, build_images(directory).container, directory, **SETTINGS)
    try:
        yield cloud
    finally:
        cloud.close()


@pytest.fixture
def sightings(cloud: LossyCloud) -> Iterator[Sightings]:
    """Looks at what truly runs, through the whole test; the machines of one test are gone at its end."""
    cloud.power = False
    cloud.all_ready()
    sightings = Sightings({container_id(host): name for name, host in cloud.hosts.items()})
    try:
        yield sightings
    finally:
        sightings.close()
        for machine in cloud.client().machines.list():
            cloud.client().machines.remove(machine["id"], wait_s=60)


@contextmanager
def killed(cloud: LossyCloud, name: str) -> Iterator[None]:
    """A host without power while the block runs."""
    cloud.hosts[name].kill()
    try:
        yield
    finally:
        cloud.hosts[name].boot()


@contextmanager
def isolated(cloud: LossyCloud, name: str) -> Iterator[None]:
    """A host that hears nobody while the block runs."""
    with cut_off(cloud.hosts[name]):
        yield


@contextmanager
def without_agent(cloud: LossyCloud, name: str) -> Iterator[None]:
    """A host whose agent was killed and does not come back while the block runs."""
    cloud.hosts[name].run(f"systemctl mask -q --runtime {UNIT}; systemctl kill -s KILL {UNIT}")
    try:
        yield
    finally:
        cloud.hosts[name].run(f"systemctl unmask -q --runtime {UNIT}; systemctl start {UNIT}")


def test_what_one_of_two_hosts_loses_runs_on_the_other(cloud: LossyCloud, sightings: Sightings) -> None:
    cloud.add("web", "n1", "recreate", PAGE)
    for loss in (killed, isolated, without_agent):
        lost = cloud.machine("web")["node"]
        (other,) = set(cloud.hosts) - {lost}
        stays = f"stays-{loss.__name__.replace('_', '-')}"
        cloud.add(stays, lost, "stay")
        before = sightings.running()[stays]
        with loss(cloud, lost):
            began = time.monotonic()
            cloud.wait(partial(cloud.answers, "web", [other], PAGE))
            assert time.monotonic() - began < ELSEWHERE_WITHIN_S
            assert {host for host, _pid in sightings.running()["web"]} == {other}
            assert cloud.machine(stays)["node"] == lost
            if loss is not killed:  # what may not be made again elsewhere is not ended either
                assert sightings.running()[stays] == before
        cloud.all_ready()
        cloud.wait(lambda stays=stays: cloud.machine(stays)["state"] == "running")
        assert (sightings.running()[stays] == before) is (loss is not killed)
        assert {host for host, _pid in sightings.running()["web"]} == {other}
    assert sightings.close() == {}


def test_a_controller_that_two_hosts_lose_stops_nothing(cloud: LossyCloud, sightings: Sightings) -> None:
    cloud.add("one", "n1", "recreate")
    cloud.add("two", "n2", "recreate")
    with NeverOff(sightings, "one", "two"):
        with controller_cut_off(cloud):
            pass_by(LONG_OVER_S)
        cloud.all_ready()
        cloud.cloud.kill()
        pass_by(LONG_OVER_S)
        cloud.cloud.start()
        cloud.all_ready()
    assert sightings.close() == {}


def test_a_controller_stops_nothing_that_is_lost_or_restarted_while_one_host_is_off(
    cloud: LossyCloud, sightings: Sightings
) -> None:
    cloud.add("one", "n1", "recreate")
    with NeverOff(sightings, "one"):
        cloud.hosts["n2"].kill()
        cloud.wait(lambda: cloud.node("n2")["state"] == "unreachable" and not is_armed(cloud, "n1"))
        pass_by(LONG_OVER_S)
        cloud.cloud.kill()
        cloud.cloud.start()
        cloud.wait_for_node("n1", "ready")
        with controller_cut_off(cloud, "n1"):
            pass_by(LONG_OVER_S)
        cloud.cloud.kill()
        pass_by(LONG_OVER_S)
        cloud.cloud.start()
        cloud.hosts["n2"].boot()
        cloud.all_ready()
    assert sightings.close() == {}


class NeverOff:
    """See that machines run as the same processes for as long as the block runs."""

    def __init__(self, sightings: Sightings, *machines: str) -> None:
        self._sightings, self._machines = sightings, machines
        self._done, self._off = threading.Event(), list[str]()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> None:
        self._before = self._sightings.running()
        assert all(machine in self._before for machine in self._machines)
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        assert self._off == []

    def _look(self) -> None:
        while not self._done.wait(1.0):
            running = self._sightings.running()
            self._off += [each for each in self._machines if running.get(each) != self._before[each]]


@contextmanager
def controller_cut_off(cloud: LossyCloud, *names: str) -> Iterator[None]:
    """The controller is heard by none of these hosts, or of all, while the block runs; they hear each other."""
    hosts = [cloud.hosts[name] for name in names or cloud.hosts]
    cuts = [(host, gateway_of(host)) for host in hosts]
    for host, address in cuts:
        host.run(TO_CONTROLLER.format(verb="I", address=address))
    try:
        yield
    finally:
        for host, address in cuts:
            host.run(TO_CONTROLLER.format(verb="D", address=address))


def gateway_of(host: Host) -> str:
    return host.run("ip -4 route show default").split()[2]


def is_armed(cloud: LossyCloud, name: str) -> bool:
    """Whether the lease of that host ends by itself."""
    return any(lease["armed"] for lease in cloud.agent(name).leases.list())


def pass_by(duration_s: float) -> None:
    """Let time pass in which nothing may happen."""
    threading.Event().wait(duration_s)
