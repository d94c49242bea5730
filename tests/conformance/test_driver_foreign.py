"""Machines that are not ours: no verb of a driver sees, changes or deletes them."""

from __future__ import annotations

from contextlib import suppress

from tests.conformance.bench import Bench, new_id

from garbi.base.errors import GarbiError
from garbi.hyper.drivers.protocol import Condition, Driver, Pausable


def test_every_verb_of_a_machine_of_ours_leaves_others_untouched(bench: Bench, driver: Driver) -> None:
    machine_id = new_id()
    bench.subject.make_foreign(bench.cluster_id, machine_id)
    assert driver.observe() == []
    bench.run(driver, machine_id)
    assert [seen.machine_id for seen in driver.observe()] == [machine_id]
    if isinstance(driver, Pausable):
        driver.pause(machine_id)
        driver.start(machine_id)
    driver.stop(machine_id)
    driver.kill(machine_id)
    assert bench.condition(driver, machine_id) is Condition.STOPPED
    assert bench.subject.foreign_changes() == []
    driver.remove(machine_id)
    driver.remove(machine_id)
    assert bench.leftovers() == []
    assert bench.subject.foreign_changes() == []


def test_every_verb_of_a_machine_that_only_others_have_finds_nothing(bench: Bench, driver: Driver) -> None:
    machine_id = new_id()
    bench.subject.make_foreign(bench.cluster_id, machine_id)
    assert driver.observe(machine_id) == []
    verbs = [driver.start, driver.stop, driver.kill, driver.remove]
    if isinstance(driver, Pausable):
        verbs.append(driver.pause)
    for verb in verbs:
        with suppress(GarbiError):
            verb(machine_id)
    assert driver.observe() == []
    assert bench.subject.foreign_changes() == []
