"""The abilities that only some drivers have, found by isinstance: where a driver has not got one, it has no such test."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar, cast

import pytest
from tests.conformance.bench import Bench, eventually, new_id
from tests.conformance.needs import needs

from garbi.base.errors import GarbiError
from garbi.hyper.drivers.protocol import (
    AnyImage,
    Condition,
    ConsoleLog,
    Driver,
    HostFootprint,
    ImageFile,
    ImageKeeper,
    LiveFigures,
    NetworkAttached,
    Pausable,
    ProcessFinder,
    RegistryPuller,
)
from garbi.hyper.model.image import ImageType

Ability = TypeVar("Ability")


def having(driver: Driver, ability: Callable[..., Ability]) -> Ability:
    """The driver as one that has the ability."""
    assert isinstance(ability, type)
    assert isinstance(driver, ability)
    return cast(Ability, driver)


def test_the_driver_is_of_the_class_that_decides_which_tests_there_are(bench: Bench, driver: Driver) -> None:
    assert type(driver) is bench.subject.driver_class


@needs(AnyImage)
def test_a_machine_can_be_made_from_a_name_alone(bench: Bench, driver: Driver) -> None:
    having(driver, AnyImage)
    name_alone = ImageFile("", ImageType.DOCKER, Path("/nonexistent"), 0)
    driver.prepare(name_alone)
    bench.run(driver, image=name_alone)


@needs(ProcessFinder)
def test_what_runs_of_a_machine_is_found_and_its_end_is_the_end_of_the_machine(bench: Bench, driver: Driver) -> None:
    finder = having(driver, ProcessFinder)
    machine_id, other = bench.run(driver), bench.run(driver)
    found = finder.processes_of(machine_id)
    assert found
    assert not set(found) & set(finder.processes_of(other))
    while found:
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        found = finder.processes_of(machine_id)
    bench.wait_for(driver, machine_id, Condition.STOPPED)
    assert bench.condition(driver, other) is Condition.RUNNING
    driver.kill(other)
    eventually("nothing is left of it", lambda: finder.processes_of(other) == [], 60)


@needs(Pausable)
def test_pause_freezes_a_machine_and_start_resumes_the_same_run(bench: Bench, driver: Driver) -> None:
    pausable = having(driver, Pausable)
    machine_id = bench.run(driver)
    before = bench.incarnation(machine_id)
    pausable.pause(machine_id)
    pausable.pause(machine_id)
    assert bench.condition(driver, machine_id) is Condition.PAUSED
    driver.start(machine_id)
    assert bench.condition(driver, machine_id) is Condition.RUNNING
    assert bench.incarnation(machine_id) == before


@needs(Pausable)
def test_a_paused_machine_can_be_killed(bench: Bench, driver: Driver) -> None:
    pausable = having(driver, Pausable)
    machine_id = bench.run(driver)
    pausable.pause(machine_id)
    driver.kill(machine_id)
    assert bench.condition(driver, machine_id) is Condition.STOPPED


@needs(Pausable)
def test_a_paused_machine_can_be_removed_and_leaves_nothing(bench: Bench, driver: Driver) -> None:
    pausable = having(driver, Pausable)
    machine_id = bench.run(driver)
    pausable.pause(machine_id)
    driver.remove(machine_id)
    assert bench.leftovers() == []


@needs(Pausable)
def test_pause_of_what_does_not_run_is_an_error_of_ours(bench: Bench, driver: Driver) -> None:
    pausable = having(driver, Pausable)
    for machine_id in (bench.add(driver), new_id()):
        with pytest.raises(GarbiError):
            pausable.pause(machine_id)


@needs(ConsoleLog)
def test_the_console_log_has_what_the_machine_printed_also_after_its_end(bench: Bench, driver: Driver) -> None:
    console = having(driver, ConsoleLog)
    machine_id = bench.run(driver)
    text = bench.subject.console_text
    eventually("the console", lambda: text in console.console_log(machine_id, 1_000_000), bench.subject.notice_s)
    driver.kill(machine_id)
    whole = console.console_log(machine_id, 1_000_000)
    assert text in whole
    assert console.console_log(machine_id, 7) == whole[-7:]


@needs(ConsoleLog)
def test_the_console_log_of_what_was_never_made_is_an_error_of_ours_or_empty(driver: Driver) -> None:
    console = having(driver, ConsoleLog)
    try:
        assert console.console_log(new_id(), 100) == b""
    except GarbiError:
        return


@needs(LiveFigures)
def test_figures_of_a_running_machine_are_plausible_and_only_grow(bench: Bench, driver: Driver) -> None:
    meter = having(driver, LiveFigures)
    machine_id = bench.run(driver)
    first = meter.figures(machine_id)
    second = meter.figures(machine_id)
    assert 0 < second.memory_bytes <= 4 * 192 * 1024 * 1024
    assert 0 <= first.cpu_seconds <= second.cpu_seconds < 3600
    assert 0 <= first.disk_read_bytes <= second.disk_read_bytes
    assert 0 <= first.disk_written_bytes <= second.disk_written_bytes
    assert 0 <= first.network_received_bytes <= second.network_received_bytes
    assert 0 <= first.network_sent_bytes <= second.network_sent_bytes


@needs(LiveFigures)
def test_figures_of_what_does_not_run_are_an_error_of_ours(bench: Bench, driver: Driver) -> None:
    meter = having(driver, LiveFigures)
    for machine_id in (bench.add(driver), new_id()):
        with pytest.raises(GarbiError):
            meter.figures(machine_id)


@needs(ImageKeeper)
def test_the_daemons_copy_of_an_image_goes_when_it_is_dropped_and_comes_back(bench: Bench, driver: Driver) -> None:
    keeper = having(driver, ImageKeeper)
    image = bench.subject.image()
    assert bench.subject.keeps_image(bench.cluster_id, image.sha256)
    for _ in range(2):
        keeper.drop_image(image.sha256)
        assert not bench.subject.keeps_image(bench.cluster_id, image.sha256)
    driver.prepare(image)
    assert bench.subject.keeps_image(bench.cluster_id, image.sha256)
    bench.run(driver)


@needs(HostFootprint)
def test_what_a_driver_made_for_all_machines_goes_when_it_withdraws_and_comes_back(
    bench: Bench, driver: Driver
) -> None:
    footprint = having(driver, HostFootprint)
    driver.remove(bench.run(driver))
    assert bench.subject.footprint(bench.cluster_id) != []
    for _ in range(2):
        footprint.withdraw()
        assert bench.subject.footprint(bench.cluster_id) == []
    driver.prepare(bench.subject.image())
    driver.remove(bench.run(driver))


@needs(RegistryPuller)
def test_a_registry_that_does_not_answer_is_an_error_of_ours(driver: Driver) -> None:
    puller = having(driver, RegistryPuller)
    with pytest.raises(GarbiError):
        puller.pull("127.0.0.1:1/nothing:latest")


@needs(NetworkAttached)
def test_the_guest_network_is_one_and_has_its_own_address_in_it(driver: Driver) -> None:
    attached = having(driver, NetworkAttached)
    network = attached.guest_network()
    assert network.gateway in map(str, network.subnet.hosts())
    assert network.bridge
    assert attached.guest_network() == network
