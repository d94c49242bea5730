"""What a driver reports by itself: ends, deaths, a daemon that went away and came back; and what it says when it is away."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from tests.conformance.bench import Bench, eventually, new_id
from tests.conformance.needs import needs
from tests.conformance.subjects import BreakableDaemon

from garbi.base.errors import DriverUnavailable
from garbi.hyper.drivers.protocol import Condition, Driver, MachineDefinition


class Reports:
    """Collects what a driver notifies of."""

    def __init__(self) -> None:
        self._lock = threading.Condition()
        self._seen: list[str | None] = []

    def notify(self, machine_id: str | None) -> None:
        """What `watch` is given."""
        with self._lock:
            self._seen.append(machine_id)
            self._lock.notify_all()

    def clear(self) -> None:
        """Forget what was reported."""
        with self._lock:
            self._seen.clear()

    def wait_for(self, machine_id: str | None, within_s: float) -> None:
        """Wait until that was reported; for a machine, also that any machine may have changed."""
        with self._lock:
            found = self._lock.wait_for(lambda: machine_id in self._seen or None in self._seen, within_s)
            assert found, f"{machine_id} was not reported within {within_s} s, but {self._seen}"


@pytest.fixture
def reports(driver: Driver) -> Reports:
    """What the driver reports from the beginning of the test."""
    reports = Reports()
    driver.watch(reports.notify)
    return reports


def test_a_machine_killed_from_outside_is_reported_and_seen_with_a_cause(
    bench: Bench, driver: Driver, reports: Reports
) -> None:
    machine_id = bench.run(driver)
    reports.wait_for(machine_id, bench.subject.notice_s)
    reports.clear()
    bench.subject.kill_outside(bench.cluster_id, machine_id)
    reports.wait_for(machine_id, bench.subject.notice_s)
    seen = bench.wait_for(driver, machine_id, Condition.STOPPED)
    assert seen.failure != ""
    driver.start(machine_id)
    again = bench.look(driver, machine_id)
    assert again is not None
    assert (again.condition, again.failure) == (Condition.RUNNING, "")


def test_a_death_while_nobody_watched_is_seen_with_a_cause_by_the_next_driver(bench: Bench, driver: Driver) -> None:
    machine_id = bench.run(driver)
    driver.close()
    bench.subject.kill_outside(bench.cluster_id, machine_id)
    seen = bench.wait_for(bench.driver(), machine_id, Condition.STOPPED)
    assert seen.failure != ""


def test_a_machine_that_ends_when_asked_is_reported_and_has_not_failed(
    bench: Bench, driver: Driver, reports: Reports
) -> None:
    machine_id = bench.run(driver)
    reports.wait_for(machine_id, bench.subject.notice_s)
    reports.clear()
    assert bench.end(driver, machine_id).failure == ""
    reports.wait_for(machine_id, bench.subject.notice_s)


def test_a_closed_driver_reports_nothing_more(bench: Bench, driver: Driver, reports: Reports) -> None:
    machine_id = bench.run(driver)
    reports.wait_for(machine_id, bench.subject.notice_s)
    driver.close()
    reports.clear()
    second, heard = bench.driver(), Reports()
    second.watch(heard.notify)
    second.kill(machine_id)
    heard.wait_for(machine_id, bench.subject.notice_s)
    assert reports._seen == []


def test_a_listener_that_raises_is_called_again_for_the_next_change(bench: Bench, driver: Driver) -> None:
    reports = Reports()

    def faulty(machine_id: str | None) -> None:
        reports.notify(machine_id)
        raise RuntimeError("a listener's own mistake")

    driver.watch(faulty)
    machine_id = bench.run(driver)
    reports.wait_for(machine_id, bench.subject.notice_s)
    reports.clear()
    driver.kill(machine_id)
    reports.wait_for(machine_id, bench.subject.notice_s)


@needs(BreakableDaemon)
def test_a_daemon_that_went_away_is_unavailable_and_watched_again_when_it_is_back(
    bench: Bench, driver: Driver, reports: Reports
) -> None:
    assert isinstance(bench.subject, BreakableDaemon)
    machine_id = bench.run(driver)
    before = bench.incarnation(machine_id)
    with bench.subject.broken_daemon():
        eventually("unavailable", lambda: not driver.info().available, bench.subject.notice_s)
        for verb in verbs_of(driver, bench.define_without_network(machine_id)):
            with pytest.raises(DriverUnavailable):
                verb()
        reports.clear()
    reports.wait_for(None, 3 * bench.subject.notice_s)
    assert driver.info().available
    assert bench.condition(driver, machine_id) is Condition.RUNNING
    assert bench.incarnation(machine_id) == before
    reports.clear()
    bench.subject.kill_outside(bench.cluster_id, machine_id)
    reports.wait_for(machine_id, bench.subject.notice_s)
    driver.remove(machine_id)
    assert bench.leftovers() == []


def test_a_driver_without_its_daemon_is_made_says_why_and_every_verb_is_unavailable(bench: Bench) -> None:
    driver = bench.subject.make_stranded_driver(bench.cluster_id, bench.data_dir)
    info = driver.info()
    assert not info.available
    assert info.reason
    driver.watch(Reports().notify)
    for verb in verbs_of(driver, bench.define_without_network(new_id())):
        with pytest.raises(DriverUnavailable):
            verb()
    driver.close()


def verbs_of(driver: Driver, machine: MachineDefinition) -> list[Callable[[], object]]:
    """Every verb that asks the daemon, ready to be called."""
    return [
        lambda: driver.add(machine),
        lambda: driver.start(machine.id),
        lambda: driver.stop(machine.id),
        lambda: driver.kill(machine.id),
        lambda: driver.remove(machine.id),
        lambda: driver.observe(machine.id),
        driver.observe,
    ]
