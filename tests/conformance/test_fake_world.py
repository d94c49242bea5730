"""What only the fake driver has: delays and faults by settings, and a world that a test plays with."""

from __future__ import annotations

import gc
import os
import threading
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.conformance.bench import eventually

from garbi.base.errors import Busy, DriverFailed, DriverUnavailable, ImageRejected, NoSpace, NotFound
from garbi.hyper.drivers.fake import FakeDriver, FakeWorld
from garbi.hyper.drivers.fake.faults import FLAGS, VERBS
from garbi.hyper.drivers.protocol import Condition, DriverContext, ImageFile, MachineDefinition
from garbi.hyper.model.image import ImageType

CLUSTER = "fake-world-tests-"
LIMIT_S = 60.0
NAME_ALONE = ImageFile("", ImageType.RAW, Path("/nonexistent"), 0)


class HandClock:
    """A clock that goes on only when a test moves it."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC)

    def monotonic(self) -> float:
        return self.seconds

    def since_boot(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


def make(tmp_path: Path, clock: HandClock, **settings: str) -> FakeDriver:
    """A driver of the cluster that this test alone has."""
    return FakeDriver(DriverContext(CLUSTER + tmp_path.name, tmp_path, clock, settings))


def world_of(tmp_path: Path) -> FakeWorld:
    """The world behind `make`, where `persist` is not set."""
    return FakeWorld.of(CLUSTER + tmp_path.name)


def run(driver: FakeDriver, machine_id: str = "web") -> str:
    """Make a machine and start it."""
    driver.add(MachineDefinition(machine_id, machine_id, NAME_ALONE, 64, 1))
    driver.start(machine_id)
    return machine_id


def condition(driver: FakeDriver, machine_id: str) -> Condition:
    (seen,) = driver.observe(machine_id)
    return seen.condition


def test_a_fault_of_the_settings_strikes_as_often_as_it_says(tmp_path: Path, clock: HandClock) -> None:
    driver = make(tmp_path, clock, faults="start:2:no-space, kill@db:*:busy")
    driver.add(MachineDefinition("web", "web", NAME_ALONE, 64, 1))
    for _ in range(2):
        with pytest.raises(NoSpace):
            driver.start("web")
    driver.start("web")
    driver.kill("web")
    for _ in range(3):
        with pytest.raises(Busy):
            driver.kill("db")


def test_a_fault_ordered_from_the_world_strikes_the_machine_that_it_names(tmp_path: Path, clock: HandClock) -> None:
    driver, world = make(tmp_path, clock), world_of(tmp_path)
    world.fail_next("add", "driver-failed", machine_id="web")
    run(driver, "db")
    with pytest.raises(DriverFailed):
        run(driver)
    assert [seen.machine_id for seen in driver.observe()] == ["db"]
    run(driver)
    world.fail_next("prepare", "image-rejected", times=None)
    for _ in range(3):
        with pytest.raises(ImageRejected):
            driver.prepare(NAME_ALONE)
    world.fail_next("prepare", "image-rejected", times=0)
    driver.prepare(NAME_ALONE)


@pytest.mark.parametrize(
    ("name", "value", "word"),
    [
        ("faults", "start:no-space", "verb[@machine]:times:code"),
        ("faults", "boot:1:no-space", "boot"),
        ("faults", "start:1:no-such-code", "no-such-code"),
        ("delay_s", "soon", "delay_s"),
        ("start_delay_s", "-1", "start_delay_s"),
        ("unavailable", "perhaps", "unavailable"),
        ("dealy_s", "1", "dealy_s"),
    ],
)
def test_a_setting_that_is_wrong_makes_the_driver_unavailable_and_is_named(
    tmp_path: Path, clock: HandClock, name: str, value: str, word: str
) -> None:
    driver = make(tmp_path, clock, **{name: value})
    info = driver.info()
    assert not info.available
    assert word in info.reason
    with pytest.raises(DriverUnavailable):
        driver.observe()


def test_every_setting_is_on_the_page_of_the_fake_driver() -> None:
    page = (Path(__file__).parents[2] / "docs/fake-driver.md").read_text(encoding="utf-8")
    names = ["DELAY_S", "<VERB>_DELAY_S", "FAULTS", *(flag.upper() for flag in FLAGS)]
    assert [name for name in names if f"| `GARBI_DRIVER_FAKE_{name}` |" not in page] == []
    assert [verb for verb in VERBS if f"`{verb}`" not in page] == []


def test_a_verb_takes_the_time_of_its_delay_on_the_clock_that_it_was_given(tmp_path: Path, clock: HandClock) -> None:
    driver = make(tmp_path, clock, start_delay_s="30")
    driver.add(MachineDefinition("web", "web", NAME_ALONE, 64, 1))
    starting = threading.Thread(target=driver.start, args=("web",))
    starting.start()
    assert condition(driver, "web") is Condition.STOPPED
    clock.seconds += 30
    starting.join(LIMIT_S)
    assert condition(driver, "web") is Condition.RUNNING


def test_closing_a_driver_ends_the_wait_of_a_verb(tmp_path: Path, clock: HandClock) -> None:
    driver = make(tmp_path, clock, delay_s="3600")
    errors: list[DriverUnavailable] = []

    def prepare() -> None:
        with pytest.raises(DriverUnavailable) as caught:
            driver.prepare(NAME_ALONE)
        errors.append(caught.value)

    waiting = threading.Thread(target=prepare)
    waiting.start()
    driver.close()
    waiting.join(LIMIT_S)
    assert len(errors) == 1


def test_a_machine_takes_the_delay_of_stop_to_end_and_the_end_is_reported(tmp_path: Path, clock: HandClock) -> None:
    driver = make(tmp_path, clock, stop_delay_s="10")
    machine_id = run(driver)
    reported = threading.Event()
    driver.watch(lambda changed: reported.set())
    driver.stop(machine_id)
    clock.seconds += 9
    assert condition(driver, machine_id) is Condition.RUNNING
    clock.seconds += 1
    assert reported.wait(LIMIT_S)
    assert condition(driver, machine_id) is Condition.STOPPED
    driver.close()


def test_a_machine_that_does_not_listen_to_stop_is_ended_by_kill(tmp_path: Path, clock: HandClock) -> None:
    driver = make(tmp_path, clock, stop_delay_s="inf", persist="true")
    machine_id = run(driver)
    driver.stop(machine_id)
    clock.seconds += 1_000_000
    assert condition(driver, machine_id) is Condition.RUNNING
    driver.kill(machine_id)
    assert condition(driver, machine_id) is Condition.STOPPED


def test_the_world_kills_and_ends_machines(tmp_path: Path, clock: HandClock) -> None:
    driver, world = make(tmp_path, clock), world_of(tmp_path)
    machine_id = run(driver)
    world.kill(machine_id, "out of memory")
    assert [seen.failure for seen in driver.observe()] == ["out of memory"]
    driver.start(machine_id)
    world.end(machine_id)
    assert [(seen.condition, seen.failure) for seen in driver.observe()] == [(Condition.STOPPED, "")]
    world.kill(machine_id)
    assert [seen.failure for seen in driver.observe()] == [""]
    with pytest.raises(NotFound):
        world.kill("nobody")


def test_an_available_world_is_reported_after_an_unavailable_one(tmp_path: Path, clock: HandClock) -> None:
    driver, world = make(tmp_path, clock), world_of(tmp_path)
    world.make_unavailable("the cable is out")
    assert driver.info().reason == "the cable is out"
    reported: list[str | None] = []
    driver.watch(reported.append)
    world.make_available()
    eventually("a report", lambda: reported == [None], LIMIT_S)
    driver.close()


def test_an_outage_too_short_to_be_seen_is_reported_all_the_same(tmp_path: Path, clock: HandClock) -> None:
    driver = make(tmp_path, clock, persist="true")
    run(driver)
    reported: list[str | None] = []
    driver.watch(reported.append)
    FakeWorld.at(tmp_path).make_unavailable()
    FakeWorld.at(tmp_path).make_available()
    eventually("a report", lambda: None in reported, LIMIT_S)
    driver.close()


def test_a_persistent_world_is_the_same_for_every_process_that_opens_its_directory(
    tmp_path: Path, clock: HandClock
) -> None:
    driver = make(tmp_path, clock, persist="true")
    machine_id = run(driver)
    assert FakeWorld.at(tmp_path).machine(machine_id).condition is Condition.RUNNING
    assert world_of(tmp_path).machines() == []
    reported = threading.Event()
    driver.watch(lambda changed: reported.set())
    FakeWorld.at(tmp_path).kill(machine_id)
    assert reported.wait(LIMIT_S)
    driver.close()


def test_a_persistent_world_that_has_no_directory_is_empty_and_is_not_made_by_a_look(
    tmp_path: Path, clock: HandClock
) -> None:
    driver = FakeDriver(DriverContext(CLUSTER, tmp_path / "missing", clock, {"persist": "true"}))
    assert driver.info().available
    assert driver.observe() == []
    assert not (tmp_path / "missing").exists()
    with pytest.raises(DriverUnavailable):
        run(driver)
    driver.watch(lambda changed: None)
    driver.close()


def test_figures_follow_the_time_that_the_machine_ran(tmp_path: Path, clock: HandClock) -> None:
    driver = make(tmp_path, clock)
    machine_id = run(driver)
    clock.seconds += 50
    before = driver.figures(machine_id)
    assert before.cpu_seconds == pytest.approx(1.0)
    driver.pause(machine_id)
    clock.seconds += 50
    assert driver.figures(machine_id) == before
    driver.start(machine_id)
    clock.seconds += 50
    assert driver.figures(machine_id).cpu_seconds == pytest.approx(2.0)


@pytest.mark.parametrize("looks", [False, True], ids=["closed", "looked-at-once-more"])
def test_a_driver_that_is_closed_leaves_no_file_open(tmp_path: Path, clock: HandClock, looks: bool) -> None:
    driver = make(tmp_path, clock, persist="true")
    driver.watch(lambda _: None)
    run(driver)
    assert open_files(tmp_path)
    driver.close()
    if looks:  # the daemon goes on, and whoever looks at it lets go of it in turn
        assert [machine.powered for machine in FakeWorld.at(tmp_path).machines()] == [True]
        del driver
        gc.collect()
    assert open_files(tmp_path) == []


def test_who_watches_sees_what_happens_after_another_driver_of_its_daemon_was_closed(
    tmp_path: Path, clock: HandClock
) -> None:
    watching, other = (make(tmp_path, clock, persist="true") for _ in range(2))
    told = threading.Event()
    run(watching)
    watching.watch(lambda _: told.set())
    other.close()
    FakeWorld.at(tmp_path).kill("web")
    assert told.wait(LIMIT_S)
    assert condition(watching, "web") is Condition.STOPPED
    watching.close()


def open_files(place: Path) -> list[str]:
    """The files in a directory that this process has open."""
    found = []
    for each in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # the one by which this is listed
            found.append(os.readlink(each))
    return [name for name in found if name.startswith(f"{place}/")]
