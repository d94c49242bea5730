"""A verb that is stopped at any place is completed by the same verb; an add that fails at any place has undone itself."""

from __future__ import annotations

from contextlib import suppress
from functools import partial

import pytest
from tests.conformance.bench import Bench, new_id
from tests.conformance.interruption import CrashError, crash, die_in_child, fail, places, stopped_at
from tests.conformance.needs import needs

from garbi.base.errors import Conflict, DriverFailed, GarbiError, ImageRejected
from garbi.base.failpoints import EXIT_CODE
from garbi.hyper.drivers.protocol import Condition, Driver


def add_places(bench: Bench, driver: Driver) -> list[str]:
    """The places that an add passes; a driver that marks none cannot be shown to be safe."""
    machine_id = new_id()
    found = places(lambda: driver.add(bench.define(driver, machine_id)))
    driver.remove(machine_id)
    assert found, "the driver's add marks no place with garbi.base.failpoints.reach"
    return found


def test_an_add_that_crashed_anywhere_is_completed_by_another_add(bench: Bench, driver: Driver) -> None:
    for place in add_places(bench, driver):
        machine_id = new_id()
        with pytest.raises(CrashError):
            stopped_at(place, partial(bench.add, driver, machine_id), crash)
        restarted = bench.driver()
        assert bench.condition(restarted, machine_id) in (None, Condition.PARTIAL, Condition.STOPPED), place
        bench.run(restarted, machine_id)
        restarted.remove(machine_id)
        assert bench.leftovers() == [], place


def test_what_an_add_that_crashed_anywhere_left_is_seen_or_is_nothing_and_can_be_removed(
    bench: Bench, driver: Driver
) -> None:
    for place in add_places(bench, driver):
        machine_id = new_id()
        with pytest.raises(CrashError):
            stopped_at(place, partial(bench.add, driver, machine_id), crash)
        restarted = bench.driver()
        if bench.leftovers():
            assert [seen.machine_id for seen in restarted.observe()] == [machine_id], place
        restarted.remove(machine_id)
        assert bench.leftovers() == [], place


def test_an_add_that_fails_anywhere_has_undone_itself(bench: Bench, driver: Driver) -> None:
    for place in add_places(bench, driver):
        machine_id = new_id()
        with pytest.raises(DriverFailed):
            stopped_at(place, partial(bench.add, driver, machine_id), fail)
        assert bench.leftovers() == [], place
        assert bench.look(driver, machine_id) is None, place


def test_a_repeated_add_that_fails_anywhere_keeps_the_machine_that_was_made(bench: Bench, driver: Driver) -> None:
    machine_id = bench.run(driver)
    before = bench.incarnation(machine_id), bench.leftovers()
    again = partial(bench.add, driver, machine_id)
    for place in places(again):
        with suppress(DriverFailed):
            stopped_at(place, again, fail)
        assert bench.condition(driver, machine_id) is Condition.RUNNING, place
        assert (bench.incarnation(machine_id), bench.leftovers()) == before, place


def test_a_start_that_crashed_anywhere_is_completed_by_another_start(bench: Bench, driver: Driver) -> None:
    machine_id = bench.add(driver)
    found = places(partial(driver.start, machine_id))
    for place in found:
        driver.kill(machine_id)
        with pytest.raises(CrashError):
            stopped_at(place, partial(driver.start, machine_id), crash)
        restarted = bench.driver()
        restarted.start(machine_id)
        assert bench.condition(restarted, machine_id) is Condition.RUNNING, place


def test_a_remove_that_crashed_anywhere_is_completed_by_another_remove(bench: Bench, driver: Driver) -> None:
    machine_id = bench.run(driver)
    for place in places(partial(driver.remove, machine_id)):
        bench.run(driver, machine_id)
        with pytest.raises(CrashError):
            stopped_at(place, partial(driver.remove, machine_id), crash)
        restarted = bench.driver()
        if bench.leftovers():
            assert [seen.machine_id for seen in restarted.observe()] == [machine_id], place
        restarted.remove(machine_id)
        assert bench.leftovers() == [], place


@needs("outlives_process")
@pytest.mark.parametrize("verb", ["add", "start", "remove"])
def test_when_the_process_dies_inside_a_verb_another_process_completes_it(
    bench: Bench, driver: Driver, verb: str
) -> None:
    machine_id = new_id()
    for place in verb_places(bench, driver, verb):
        if verb != "add":
            bench.add(driver, machine_id)
        request = {
            "subject": bench.subject.name,
            "work_dir": str(bench.work_dir),
            "cluster_id": bench.cluster_id,
            "data_dir": str(bench.data_dir),
            "machine_id": machine_id,
            "verb": verb,
        }
        assert die_in_child(place, request) == EXIT_CODE, f"the process was to die at {place}"
        if verb == "remove":
            driver.remove(machine_id)
        else:
            bench.run(driver, machine_id)
            driver.remove(machine_id)
        assert bench.leftovers() == [], place


def verb_places(bench: Bench, driver: Driver, verb: str) -> list[str]:
    """The places that add, start or remove of a machine pass."""
    if verb == "add":
        return add_places(bench, driver)
    machine_id = bench.add(driver)
    found = places(partial(getattr(driver, verb), machine_id))
    driver.remove(machine_id)
    return found


def test_a_corrupt_image_is_refused_and_leaves_nothing(bench: Bench, driver: Driver) -> None:
    corrupt = bench.subject.corrupt_image()
    with pytest.raises((ImageRejected, DriverFailed)):
        prepare_add_start(bench, driver, corrupt)
    assert bench.leftovers() == []


def prepare_add_start(bench: Bench, driver: Driver, image: object) -> None:
    """Go as far as it goes; what can only be found at start is removed, as the agent would when the user gives up."""
    driver.prepare(image)  # type: ignore[arg-type]
    machine_id = bench.add(driver, image=image)
    try:
        driver.start(machine_id)
    finally:
        driver.remove(machine_id)


def test_add_of_a_name_that_somebody_else_has_fails_undoes_itself_and_touches_nothing(
    bench: Bench, driver: Driver
) -> None:
    machine_id = new_id()
    bench.subject.make_impostor(bench.cluster_id, machine_id)
    with pytest.raises((Conflict, DriverFailed)):
        bench.add(driver, machine_id)
    assert bench.leftovers() == []
    assert bench.look(driver, machine_id) is None
    for verb in (driver.start, driver.stop, driver.kill, driver.remove):
        try:
            verb(machine_id)
        except GarbiError:
            continue
    assert bench.subject.foreign_changes() == []
