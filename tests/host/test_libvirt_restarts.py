"""The libvirt driver on a libvirtd of the test's own that is restarted, killed, and stopped in its tracks."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.host.libvirt_machines import Cloudlet, Reports, blank_image, cloudlet, eventually, open_directory
from tests.host.own_libvirtd import OwnLibvirtd, own_libvirtd

from garbi.base.errors import DriverUnavailable
from garbi.hyper.drivers.libvirt import LibvirtDriver
from garbi.hyper.drivers.libvirt import connection as connection_module
from garbi.hyper.drivers.protocol import Condition
from garbi.hyper.model.image import ImageType

pytestmark = [pytest.mark.libvirt, pytest.mark.root]


@pytest.fixture(scope="module")
def daemon() -> Iterator[OwnLibvirtd]:
    with own_libvirtd() as daemon:
        yield daemon


@pytest.fixture
def cloud(daemon: OwnLibvirtd) -> Iterator[Cloudlet]:
    directory = open_directory()
    try:
        with cloudlet(blank_image(directory, ImageType.QCOW2, "16M"), daemon.uri) as made:
            yield made
    finally:
        shutil.rmtree(directory)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_the_same_driver_works_after_a_restart_of_its_daemon_and_machines_keep_running(
    daemon: OwnLibvirtd, cloud: Cloudlet, how: signal.Signals
) -> None:
    reports = Reports()
    cloud.driver.watch(reports)
    cloud.run("web")
    pid = daemon.qemu_pid(cloud.domain_name("web"))
    daemon.stop(how)
    with pytest.raises(DriverUnavailable):
        cloud.driver.observe()
    assert not cloud.driver.info().available
    reports.clear()
    daemon.start()
    reports.wait_until(lambda: None in reports.seen)
    eventually("the machine is taken over", lambda: cloud.condition("web") is Condition.RUNNING)
    assert daemon.qemu_pid(cloud.domain_name("web")) == pid
    assert cloud.driver.guest_network() == cloud.network
    reports.clear()
    # This waits until the daemon speaks with QEMU again: of what ends before that, it tells nobody.
    cloud.driver.pause("web")
    reports.wait_until(lambda: "web" in reports.seen)
    reports.clear()
    cloud.driver.kill("web")
    reports.wait_until(lambda: "web" in reports.seen)
    cloud.driver.remove("web")
    cloud.run("next")
    assert [seen.machine_id for seen in cloud.driver.observe()] == ["next"]


def test_a_verb_right_after_a_restart_needs_no_event_to_find_its_way(daemon: OwnLibvirtd, cloud: Cloudlet) -> None:
    cloud.run("web")
    daemon.stop()
    daemon.start()
    eventually("the machine is taken over", lambda: cloud.condition("web") is Condition.RUNNING)


def test_a_machine_that_died_while_its_daemon_was_away_is_a_failure(daemon: OwnLibvirtd, cloud: Cloudlet) -> None:
    cloud.run("web")
    pid = daemon.qemu_pid(cloud.domain_name("web"))
    daemon.stop(signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)
    daemon.wait(lambda: not Path(f"/proc/{pid}").exists(), "the process is gone")
    daemon.start()
    eventually("its end is seen", lambda: cloud.condition("web") is Condition.STOPPED)
    assert cloud.failure("web") != ""
    cloud.driver.start("web")
    assert cloud.condition("web") is Condition.RUNNING


def test_an_agent_that_starts_before_its_daemon_learns_of_it_when_it_comes(
    daemon: OwnLibvirtd, cloud: Cloudlet
) -> None:
    cloud.run("web")
    daemon.stop()
    early, reports = LibvirtDriver(cloud.context), Reports()
    early.watch(reports)
    daemon.start()
    reports.wait_until(lambda: None in reports.seen)
    eventually("the machine is seen", lambda: [seen.machine_id for seen in early.observe()] == ["web"])
    early.close()


def test_a_daemon_that_stopped_in_its_tracks_holds_nobody_up_for_ever(
    daemon: OwnLibvirtd, cloud: Cloudlet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "KEEPALIVE_S", 2)
    driver = LibvirtDriver(cloud.context)
    driver.add(cloud.define("web"))
    monkeypatch.setattr(connection_module, "ANSWER_WITHIN_S", 2.0)
    daemon.send(signal.SIGSTOP)
    try:
        with pytest.raises(DriverUnavailable):
            driver.observe()
        fresh = LibvirtDriver(cloud.context)
        with pytest.raises(DriverUnavailable):
            fresh.observe()
        assert not fresh.info().available
    finally:
        daemon.send(signal.SIGCONT)
        monkeypatch.undo()
    for each in (driver, fresh):
        eventually("it answers again", lambda each=each: each.info().available)  # type: ignore[misc]
        assert [seen.machine_id for seen in each.observe()] == ["web"]
        each.close()
