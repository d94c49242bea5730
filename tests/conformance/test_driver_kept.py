"""A disk that is kept outlives its machine, whatever happens on the way, and a driver that cannot keep has no such test."""

from __future__ import annotations

from functools import partial

import pytest
from tests.conformance.bench import Bench, new_id
from tests.conformance.interruption import CrashError, crash, fail, places, stopped_at
from tests.conformance.needs import needs

from garbi.base.errors import Conflict, DriverFailed
from garbi.hyper.drivers.protocol import Condition, DiskKeeper, Driver

pytestmark = needs(DiskKeeper)


def keeper_of(driver: Driver) -> DiskKeeper:
    assert isinstance(driver, DiskKeeper)
    return driver


def kept_and_removed(driver: Driver, machine_id: str, name: str) -> None:
    """Keep the disk of a machine that does not run, and remove the machine."""
    assert keeper_of(driver).keep_disk(machine_id, name) is not None
    driver.remove(machine_id)


def test_a_kept_disk_outlives_its_machine_until_it_is_dropped(bench: Bench, driver: Driver) -> None:
    machine_id = bench.run(driver)
    driver.kill(machine_id)
    keeper = keeper_of(driver)
    disk = keeper.keep_disk(machine_id, f"{machine_id}.3")
    assert disk is not None
    assert disk.place
    driver.remove(machine_id)
    assert bench.look(driver, machine_id) is None
    assert list(keeper.kept_disks()) == [f"{machine_id}.3"]
    assert keeper.kept_disks()[f"{machine_id}.3"].place == disk.place
    for _ in range(2):
        keeper.drop_kept(f"{machine_id}.3")
        assert keeper.kept_disks() == {}
    assert bench.leftovers() == []


def test_the_id_is_free_at_once_and_the_next_disk_is_kept_under_its_own_name(bench: Bench, driver: Driver) -> None:
    machine_id, keeper = new_id(), keeper_of(driver)
    for epoch in range(2):
        bench.run(driver, machine_id)
        driver.kill(machine_id)
        kept_and_removed(driver, machine_id, f"{machine_id}.{epoch}")
    bench.run(driver, machine_id)
    assert sorted(keeper.kept_disks()) == [f"{machine_id}.0", f"{machine_id}.1"]
    assert [seen.machine_id for seen in driver.observe()] == [machine_id]
    for name in keeper.kept_disks():
        keeper.drop_kept(name)
    assert bench.condition(driver, machine_id) is Condition.RUNNING
    driver.remove(machine_id)
    assert bench.leftovers() == []


def test_the_disk_of_a_running_machine_is_not_kept_and_nothing_changes(bench: Bench, driver: Driver) -> None:
    machine_id = bench.run(driver)
    before = bench.incarnation(machine_id)
    with pytest.raises(Conflict):
        keeper_of(driver).keep_disk(machine_id, f"{machine_id}.1")
    assert bench.incarnation(machine_id) == before
    assert keeper_of(driver).kept_disks() == {}


def test_of_a_machine_that_was_never_made_there_is_nothing_to_keep(driver: Driver) -> None:
    machine_id = new_id()
    assert keeper_of(driver).keep_disk(machine_id, f"{machine_id}.1") is None
    assert keeper_of(driver).kept_disks() == {}


def test_a_name_that_is_given_is_not_taken_by_another_disk(bench: Bench, driver: Driver) -> None:
    machine_id, keeper = new_id(), keeper_of(driver)
    bench.add(driver, machine_id)
    kept_and_removed(driver, machine_id, f"{machine_id}.1")
    before = keeper.kept_disks()
    bench.add(driver, machine_id)
    with pytest.raises(Conflict):
        keeper.keep_disk(machine_id, f"{machine_id}.1")
    assert keeper.kept_disks() == before
    bench.run(driver, machine_id)
    keeper.drop_kept(f"{machine_id}.1")


def test_keeping_that_crashed_anywhere_is_completed_by_keeping_again(bench: Bench, driver: Driver) -> None:
    machine_id, keeper = new_id(), keeper_of(driver)
    bench.add(driver, machine_id)
    passed = places(partial(kept_and_removed, driver, machine_id, f"{machine_id}.0"))
    assert passed, "the driver marks no place with garbi.base.failpoints.reach"
    for number, place in enumerate(passed, 1):
        name = f"{machine_id}.{number}"
        bench.add(driver, machine_id)
        with pytest.raises(CrashError):
            stopped_at(place, partial(kept_and_removed, driver, machine_id, name), crash)
        restarted = bench.driver()
        disk = keeper_of(restarted).keep_disk(machine_id, name)
        assert disk is not None, place
        restarted.remove(machine_id)
        assert keeper_of(restarted).keep_disk(machine_id, name) == disk, f"{place}: not repeatable once it is gone"
    assert len(keeper.kept_disks()) == len(passed) + 1
    for name in keeper.kept_disks():
        keeper.drop_kept(name)
    assert bench.leftovers() == []


def test_keeping_that_failed_anywhere_has_lost_nothing(bench: Bench, driver: Driver) -> None:
    machine_id, keeper = new_id(), keeper_of(driver)
    bench.add(driver, machine_id)
    passed = places(partial(keeper.keep_disk, machine_id, f"{machine_id}.0"))
    driver.remove(machine_id)
    for number, place in enumerate(passed, 1):
        name = f"{machine_id}.{number}"
        bench.add(driver, machine_id)
        with pytest.raises(DriverFailed):
            stopped_at(place, partial(keeper.keep_disk, machine_id, name), fail)
        assert keeper.keep_disk(machine_id, name) is not None, place
        driver.remove(machine_id)
    for name in keeper.kept_disks():
        keeper.drop_kept(name)
    assert bench.leftovers() == []


def test_the_kept_disks_of_other_clusters_are_not_seen(bench: Bench, driver: Driver) -> None:
    machine_id = bench.add(driver)
    kept_and_removed(driver, machine_id, f"{machine_id}.1")
    other = bench.subject.make_driver("f" * 8 + bench.cluster_id[8:], bench.data_dir / "other")
    try:
        assert keeper_of(other).kept_disks() == {}
        keeper_of(other).drop_kept(f"{machine_id}.1")
    finally:
        other.close()
    assert list(keeper_of(driver).kept_disks()) == [f"{machine_id}.1"]
    keeper_of(driver).drop_kept(f"{machine_id}.1")
