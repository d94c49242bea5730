"""Which container a machine is: the one that was made, whatever somebody calls it, and none that only has its labels."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.host.docker_engines import eventually
from tests.host.test_docker_driver import Bench

from garbi.base.clock import SystemClock
from garbi.base.errors import AlreadyExists, DriverUnavailable, GarbiError
from garbi.hyper.drivers.docker import DockerDriver
from garbi.hyper.drivers.protocol import Condition, DriverContext, Identity, MachineDefinition, MarkedMachine

pytestmark = [pytest.mark.docker, pytest.mark.root]

MARKS = {
    "data-dir": "/var/lib/garbi/x",
    "on-node-failure": "recreate",
    "controller": "ab" * 16,
    "epoch": "7",
    "lease": "2",
}


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    bench.spare = f"garbi-test-{secrets.token_hex(4)}"  # type: ignore[attr-defined]
    try:
        yield bench
    finally:
        bench.driver.close()
        bench.engine.sweep(bench.cluster_id)
        bench.engine.docker("image", "rm", "-f", bench.spare, check=False)  # type: ignore[attr-defined]


def spare(bench: Bench) -> str:
    """A name that is free."""
    return str(bench.spare)  # type: ignore[attr-defined]


def surveyed(bench: Bench, machine_id: str) -> list[tuple[str, Identity]]:
    found = [each for each in bench.driver.survey() if each.machine_id == machine_id]
    assert {each.cluster_id for each in found} <= {bench.cluster_id}
    return sorted((each.place.removeprefix("container "), each.identity) for each in found)


def state(bench: Bench, name: str) -> str:
    return str(bench.engine.inspect(name)["State"]["Status"])


def test_a_renamed_container_stays_its_machine(bench: Bench) -> None:
    machine = bench.run()
    seen: list[str | None] = []
    bench.driver.watch(seen.append)
    eventually("it watches", lambda: None in seen)
    bench.engine.docker("rename", bench.container(machine), spare(bench))
    assert bench.look(machine).condition is Condition.RUNNING
    assert bench.driver.console_log(machine, 100)
    assert bench.driver.processes_of(machine)
    seen.clear()
    bench.driver.stop(machine)
    bench.ended(machine)
    eventually("its end is told", lambda: machine in seen)
    bench.driver.start(machine)
    os.kill(int(bench.engine.inspect(spare(bench))["State"]["Pid"]), signal.SIGKILL)
    assert bench.ended(machine).failure
    bench.driver.start(machine)
    bench.driver.add(MachineDefinition(machine, machine, bench.image(), 64, 1))
    assert surveyed(bench, machine) == [(spare(bench), Identity.MADE)]
    another = bench.make_driver()  # as after a restart of the agent
    assert [each.machine_id for each in another.observe()] == [machine]
    another.kill(machine)
    another.remove(machine)
    assert not bench.engine.docker("ps", "-aq", "--filter", f"label=garbi.machine={machine}")
    another.close()


def test_a_container_of_an_image_of_a_machine_is_not_that_machine(bench: Bench) -> None:
    machine = bench.run()
    bench.engine.docker("commit", bench.container(machine), spare(bench))
    bench.engine.docker("run", "-d", "--name", spare(bench), spare(bench))
    assert surveyed(bench, machine) == [(bench.container(machine), Identity.MADE), (spare(bench), Identity.COPY)]
    assert len(bench.driver.observe()) == 1
    bench.driver.kill(machine)
    bench.driver.remove(machine)
    assert bench.driver.observe() == []
    assert state(bench, spare(bench)) == "running"
    bench.engine.docker("rename", spare(bench), bench.container(machine))
    for driver in (bench.driver, bench.make_driver()):
        assert (driver.observe(), driver.observe(machine)) == ([], [])
        driver.kill(machine)
        driver.remove(machine)
        with pytest.raises(AlreadyExists):
            driver.add(MachineDefinition(machine, machine, bench.image(), 64, 1))
    assert surveyed(bench, machine) == [(bench.container(machine), Identity.COPY)]
    assert state(bench, bench.container(machine)) == "running"


def test_where_the_notes_are_lost_name_and_labels_count_together(bench: Bench) -> None:
    machine, renamed = bench.run(), bench.run()
    bench.engine.docker("rename", bench.container(renamed), spare(bench))
    bench.driver.close()
    shutil.rmtree(bench.directory / "containers")
    bench.driver = bench.make_driver()
    assert [each.machine_id for each in bench.driver.observe()] == [machine]
    assert bench.driver.observe(renamed) == []
    assert surveyed(bench, renamed) == [(spare(bench), Identity.UNSURE)]
    bench.engine.docker("rename", bench.container(machine), f"{spare(bench)}-too")
    assert bench.look(machine).condition is Condition.RUNNING  # it was noted when it was found
    assert state(bench, spare(bench)) == "running"


def test_marks_stand_on_the_container_and_are_found_with_and_without_the_engine(bench: Bench) -> None:
    machine = bench.run(marks=MARKS, labels={"tier": "web", "garbi.epoch": "7"})
    labels = bench.inspect(machine)["Config"]["Labels"]
    assert {f"garbi.{key}": text for key, text in MARKS.items()}.items() <= labels.items()
    stranger = Bench(bench.directory / "stranger").driver

    def found(all_of_them: list[MarkedMachine]) -> MarkedMachine:
        (one,) = [each for each in all_of_them if each.cluster_id == bench.cluster_id]
        return one

    try:
        by_engine, by_processes = found(stranger.survey()), found(stranger.survey_processes())
        assert by_engine == by_processes
        assert (by_engine.marks, by_engine.labels) == (MARKS, {"tier": "web", "garbi.epoch": "7"})
        assert (by_engine.machine_id, by_engine.condition, by_engine.identity) == (
            machine,
            Condition.RUNNING,
            Identity.MADE,
        )
        bench.driver.pause(machine)
        assert found(stranger.survey_processes()).condition is Condition.PAUSED
        bench.driver.kill(machine)
        assert found(stranger.survey()).condition is Condition.STOPPED
        assert [each for each in stranger.survey_processes() if each.cluster_id == bench.cluster_id] == []
    finally:
        stranger.close()


def test_a_container_that_cannot_be_noted_is_not_left_behind(bench: Bench) -> None:
    image = bench.image()
    (bench.directory / "containers").write_text("not a directory")
    with pytest.raises(GarbiError):
        bench.add(image)
    assert not bench.engine.docker("ps", "-aq", "--filter", f"label=garbi.cluster={bench.cluster_id}")


def test_an_engine_that_is_not_there_is_no_obstacle_and_one_elsewhere_is(tmp_path: Path) -> None:
    nowhere, elsewhere = (
        DockerDriver(DriverContext(secrets.token_hex(16), tmp_path, SystemClock(), {"host": host}))
        for host in (f"unix://{tmp_path}/none.sock", "tcp://192.0.2.1:2375")
    )
    with pytest.raises(DriverUnavailable):
        nowhere.survey()
    assert isinstance(nowhere.survey_processes(), list)
    with pytest.raises(DriverUnavailable, match="another host"):
        elsewhere.survey_processes()
