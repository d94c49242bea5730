"""Real hosts are lost: what may run elsewhere does, once it is proven that it stopped, and nothing ever runs twice."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from tests.host.agent.host_agent import build_images

from .conftest import at_once
from .hosts import Lab
from .lossy import DATA, PAGE, PORT, UNIT, LossyCloud, container_id, cut_off, frozen
from .sightings import Sightings

pytestmark = [pytest.mark.root, pytest.mark.docker, pytest.mark.timeout(900)]

SETTINGS = {"check_period_s": 1, "unreachable_after_s": 8, "lease_ttl_s": 25, "lease_margin_s": 10}


@pytest.fixture(scope="module")
def cloud(lab: Lab, packaged_image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LossyCloud]:
    """Three hosts, so that two can tell that the third is cut off."""
    directory = tmp_path_factory.mktemp("failover")
    hosts = at_once(*[partial(lab.add_host, packaged_image)] * 3)
    cloud = LossyCloud(lab, hosts, build_images(directory).container, directory, **SETTINGS)
    try:
        yield cloud
    finally:
        cloud.close()


@pytest.fixture
def sightings(cloud: LossyCloud) -> Iterator[Sightings]:
    """Looks at what truly runs, through the whole test."""
    cloud.all_ready()
    sightings = Sightings({container_id(host): name for name, host in cloud.hosts.items()})
    try:
        yield sightings
    finally:
        sightings.close()
        for machine in cloud.client().machines.list():
            cloud.client().machines.remove(machine["id"], wait_s=60)


def test_a_host_that_dies_has_its_containers_elsewhere_once_its_power_is_known_to_be_off(
    cloud: LossyCloud, sightings: Sightings
) -> None:
    cloud.power = True
    cloud.add("web", "n1", "recreate", PAGE)
    cloud.add("stays", "n1", "stay")
    cloud.hosts["n1"].kill()
    cloud.wait_for_node("n1", "unavailable")
    assert "power" in cloud.node("n1")["reason"]
    cloud.wait(lambda: cloud.answers("web", ["n2", "n3"], PAGE))
    assert cloud.machine("stays")["state"] == "failed"
    assert "lost with node n1" in cloud.machine("stays")["reason"]
    told = reasons(cloud, "failover")
    assert [words for words in told if "web" in words and "stays" in words]
    cloud.hosts["n1"].boot()
    cloud.wait_for_node("n1", "ready")
    cloud.wait(lambda: cloud.machine("stays")["state"] == "running")
    assert_copy_is_kept(cloud, "n1", "web")
    assert sightings.close() == {}


def test_an_agent_that_is_dead_for_good_has_its_host_stop_the_machines_over_ssh(
    cloud: LossyCloud, sightings: Sightings
) -> None:
    cloud.power = False
    cloud.add("web", "n2", "recreate", PAGE)
    cloud.add("stays", "n2", "stay")
    before = sightings.running()["stays"]
    cloud.hosts["n2"].run(f"systemctl mask -q --runtime {UNIT}; systemctl kill -s KILL {UNIT}")
    try:
        cloud.wait_for_node("n2", "unavailable")
        assert "ssh" in cloud.node("n2")["reason"]
        cloud.wait(lambda: cloud.answers("web", ["n1", "n3"], PAGE))
        assert cloud.machine("stays")["state"] == "unknown"
        assert sightings.running()["stays"] == before
    finally:
        cloud.hosts["n2"].run(f"systemctl unmask -q --runtime {UNIT}; systemctl start {UNIT}")
    cloud.wait_for_node("n2", "ready")
    cloud.wait(lambda: cloud.machine("stays")["state"] == "running")
    assert sightings.running()["stays"] == before
    assert_copy_is_kept(cloud, "n2", "web")
    assert sightings.close() == {}


def test_a_host_that_was_frozen_stops_its_copies_when_it_goes_on(cloud: LossyCloud, sightings: Sightings) -> None:
    cloud.power = False
    cloud.add("web", "n3", "recreate", PAGE)
    sightings.note_frozen("n3")
    with frozen(cloud.hosts["n3"]):
        cloud.wait_for_node("n3", "unavailable")
        assert "lease" in cloud.node("n3")["reason"]
        cloud.wait(lambda: cloud.answers("web", ["n1", "n2"], PAGE))
    sightings.note_thawed("n3")
    cloud.wait_for_node("n3", "ready")
    cloud.wait(lambda: {host for host, _pid in sightings.running()["web"]} <= {"n1", "n2"})
    assert_copy_is_kept(cloud, "n3", "web")
    assert sightings.close() == {}


def test_a_host_that_is_cut_off_stops_its_machines_before_they_are_started_elsewhere(
    cloud: LossyCloud, sightings: Sightings
) -> None:
    cloud.power = False
    cloud.add("web", "n1", "recreate", PAGE)
    cloud.add("stays", "n1", "stay")
    before = sightings.running()["stays"]
    with cut_off(cloud.hosts["n1"]):
        cloud.wait(lambda: "web" not in sightings.running())  # its own watchdog does that
        assert cloud.machine("web")["node"] == "n1"
        cloud.wait_for_node("n1", "unavailable")
        assert "lease" in cloud.node("n1")["reason"]
        cloud.wait(lambda: cloud.answers("web", ["n2", "n3"], PAGE))
        assert cloud.machine("stays")["state"] == "unknown"
    cloud.wait_for_node("n1", "ready")
    cloud.wait(lambda: cloud.machine("stays")["state"] == "running")
    assert sightings.running()["stays"] == before
    assert_copy_is_kept(cloud, "n1", "web")
    assert sightings.close() == {}


def test_a_host_whose_agent_begins_anew_on_an_empty_directory_stops_the_containers_of_the_one_before(
    cloud: LossyCloud, sightings: Sightings
) -> None:
    cloud.power = False
    cloud.add("web", "n2", "recreate", PAGE)
    cloud.add("stays", "n2", "stay")
    before, host = sightings.running()["stays"], cloud.hosts["n2"]
    host.run(f"iptables -I INPUT -p tcp --dport {PORT} -j DROP; systemctl stop {UNIT}; cp -a {DATA} /root/before")
    host.run(f"find {DATA} -mindepth 1 -delete; systemctl start {UNIT}")
    try:
        cloud.wait(lambda: "web" not in on(sightings, "n2"))
        cloud.wait(lambda: cloud.answers("web", ["n1", "n3"], PAGE))
        assert "fenced by lease" in cloud.node("n2")["reason"]  # that of SSH was another agent's
        assert cloud.machine("stays")["state"] == "unknown"
        assert sightings.running()["stays"] == before
    finally:
        host.run(f"systemctl stop {UNIT}; rm -rf {DATA}; mv /root/before {DATA}; systemctl start {UNIT}")
        host.run(f"iptables -D INPUT -p tcp --dport {PORT} -j DROP")
    cloud.wait_for_node("n2", "ready")
    cloud.wait(lambda: cloud.machine("stays")["state"] == "running")
    assert sightings.running()["stays"] == before
    assert sightings.close() == {}


def on(sightings: Sightings, host: str) -> list[str]:
    """The machines that run on a host."""
    return [name for name, places in sightings.running().items() if host in {where for where, _pid in places}]


def assert_copy_is_kept(cloud: LossyCloud, node: str, machine: str) -> None:
    """What was moved away is no machine of the node any more; its disk is kept there for a week, and an event says so."""
    kept: list[dict[str, Any]] = []

    def is_kept() -> bool:
        kept[:] = cloud.agent(node).kept.list({"machine_id": machine})
        return bool(kept) and machine not in {each["id"] for each in cloud.agent(node).machines.list()}

    cloud.wait(is_kept)
    [copy] = kept
    assert 6 * 86400 < copy["left_s"] <= 7 * 86400
    cloud.wait(lambda: any(f"{machine} (now on " in words for words in reasons(cloud, "returned")))
    cloud.agent(node).kept.remove(copy["name"])


def reasons(cloud: LossyCloud, kind: str) -> list[str]:
    """Why the events of that kind came about."""
    return [event["reason"] for event in cloud.client().events(last=500, follow=False) if event["kind"] == kind]
