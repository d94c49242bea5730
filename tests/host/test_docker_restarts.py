"""The docker driver on an engine of the test's own that is restarted, killed, stopped in its tracks, and out of space."""

from __future__ import annotations

import os
import secrets
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.host.docker_archives import (
    RUN_UNTIL_ASKED,
    busybox_tree,
    image_config,
    image_file,
    saved_archive,
    shell_image,
)
from tests.host.docker_engines import OwnEngine, eventually, own_engine

from garbi.base.clock import SystemClock
from garbi.base.errors import DriverUnavailable, NoSpace
from garbi.hyper.drivers.docker import DockerDriver
from garbi.hyper.drivers.docker import engine as engine_module
from garbi.hyper.drivers.protocol import Condition, DriverContext, ImageFile, MachineDefinition

pytestmark = [pytest.mark.docker, pytest.mark.root]


@pytest.fixture(scope="module")
def engine() -> Iterator[OwnEngine]:
    with own_engine() as engine:
        yield engine


@pytest.fixture
def driver(engine: OwnEngine, tmp_path: Path) -> Iterator[DockerDriver]:
    driver = _driver(engine, tmp_path)
    yield driver
    driver.close()


def _driver(engine: OwnEngine, directory: Path) -> DockerDriver:
    return DockerDriver(DriverContext(secrets.token_hex(16), directory, SystemClock(), {"host": engine.host}))


def _define(machine_id: str, image: ImageFile) -> MachineDefinition:
    return MachineDefinition(machine_id, machine_id, image, 64, 1)


def _run(driver: DockerDriver, directory: Path, machine_id: str) -> None:
    image = shell_image(directory / "image.tar", RUN_UNTIL_ASKED)
    driver.prepare(image)
    driver.add(_define(machine_id, image))
    driver.start(machine_id)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_driver_outlives_its_engine(
    engine: OwnEngine, driver: DockerDriver, tmp_path: Path, how: signal.Signals
) -> None:
    reports: list[str | None] = []
    driver.watch(reports.append)
    _run(driver, tmp_path, "m-one")
    eventually("connected", lambda: None in reports and "m-one" in reports)
    engine.stop(how)
    assert not driver.info().available
    for verb in (driver.observe, lambda: driver.start("m-one"), lambda: driver.remove("m-one")):
        with pytest.raises(DriverUnavailable):
            verb()
    reports.clear()
    engine.start()
    (seen,) = driver.observe()
    assert (seen.machine_id, seen.condition) == ("m-one", Condition.STOPPED)
    eventually("told that anything may be new", lambda: None in reports)
    driver.start("m-one")
    eventually("told of the start", lambda: "m-one" in reports)
    assert driver.observe("m-one")[0].condition is Condition.RUNNING
    driver.remove("m-one")
    assert driver.observe() == []


def test_connections_from_before_a_restart_do_no_harm_to_any_thread(
    engine: OwnEngine, driver: DockerDriver, tmp_path: Path
) -> None:
    def look(failures: list[BaseException]) -> None:
        try:
            driver.observe()
        except BaseException as error:
            failures.append(error)

    def look_at_once() -> list[BaseException]:
        failures: list[BaseException] = []
        threads = [threading.Thread(target=look, args=(failures,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return failures

    assert look_at_once() == []
    engine.stop()
    assert {type(failure) for failure in look_at_once()} == {DriverUnavailable}
    engine.start()
    assert look_at_once() == []


def test_an_engine_that_hangs_is_unavailable_and_works_again_when_it_goes_on(
    engine: OwnEngine, driver: DockerDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "HELLO_TIMEOUT_S", 0.5)
    monkeypatch.setattr(engine_module, "CALL_TIMEOUT_S", 0.5)
    assert driver.observe() == []
    with engine.frozen():
        with pytest.raises(DriverUnavailable, match="in time"):
            driver.observe()
        info = driver.info()
    assert not info.available
    assert "in time" in info.reason
    eventually("it answers again", lambda: driver.info().available)
    assert driver.observe() == []


def test_close_ends_the_watch_of_an_engine_that_hangs(engine: OwnEngine, driver: DockerDriver) -> None:
    connected = threading.Event()
    driver.watch(lambda _: connected.set())
    assert connected.wait(60)
    with engine.frozen():
        driver.close()
        assert [thread.name for thread in threading.enumerate() if thread.name == "docker-events"] == []


def test_an_engine_without_space_says_so_and_machines_can_still_be_removed(tmp_path: Path) -> None:
    with own_engine(data_size="24m") as engine:
        driver = _driver(engine, tmp_path)
        _run(driver, tmp_path, "m-one")
        layers = [busybox_tree({"much": os.urandom(30_000_000)})]
        much = image_file(tmp_path / "much.tar", saved_archive(layers, image_config(layers, ["/bin/sh"])))
        with pytest.raises(NoSpace):
            driver.prepare(much)
        assert driver.observe("m-one")[0].condition is Condition.RUNNING
        driver.remove("m-one")
        assert driver.observe() == []
        driver.close()
