"""A controller that is killed in the middle of a transaction leaves all of it or nothing, and the next one goes on."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.iaas_store.cloud import Cloud

from garbi.base import failpoints
from garbi.hyper_api.vocabulary import PublishedPort
from garbi.iaas.model.event import Subject
from garbi.iaas.model.machine import MachineSpec
from garbi.iaas.store import events, machines, operations

WAIT_S = 120
WORKERS = 4
SPEC = MachineSpec(image="any", type="fake", id="web", node="n1", ports=(PublishedPort(80, 80),))

Deed = Callable[[Cloud], object]


def accept(cloud: Cloud) -> object:
    return cloud.placement.accept(SPEC, "key")


def move(cloud: Cloud) -> object:
    machine = cloud.machine("web")
    assert machine is not None
    return cloud.placement.replace(machine)


def delete(cloud: Cloud) -> object:
    machine = cloud.machine("web")
    assert machine is not None
    return cloud.remove_machine(machine)


DEEDS: dict[str, tuple[Deed, tuple[str, ...]]] = {
    "accept": (accept, ("placement.accept.reserved", "store.machine.inserted", "placement.accept.written")),
    "move": (move, ("placement.replace.reserved", "store.machine.moved")),
    "delete": (delete, ("store.machine.deleted",)),
}


@pytest.mark.parametrize(("deed", "place"), [(name, place) for name, (_, all) in DEEDS.items() for place in all])
def test_a_crash_in_a_transaction_leaves_nothing_of_it(
    cloud: Cloud, url: str, directory: Path, deed: str, place: str
) -> None:
    cloud.add_node("n1")
    cloud.add_node("n2")
    if deed != "accept":
        accept(cloud)
    before = picture(cloud)
    act = DEEDS[deed][0]
    died = in_a_process(cloud, url, directory, act, crash_at=place)
    assert died == failpoints.EXIT_CODE
    assert picture(cloud) == before
    assert cloud.findings() == []
    act(cloud)
    assert picture(cloud) != before
    assert cloud.findings() == []


def test_a_controller_that_is_killed_again_and_again_loses_and_leaks_nothing(
    cloud: Cloud, url: str, directory: Path
) -> None:
    cloud.add_node("n1")
    cloud.add_node("n2")
    for life in range(4):
        before = len(cloud.events())
        cloud.database.close()
        process = multiprocessing.get_context("fork").Process(target=_toil, args=(url, directory, life))
        process.start()
        try:
            wait_for_events(cloud, before + 40, process)
        finally:
            os.kill(process.pid or 0, signal.SIGKILL)
            process.join(WAIT_S)
        check_whole(cloud)
    for machine in cloud.all_machines():
        assert cloud.remove_machine(machine)
    assert [cloud.node(name).reserved.mem for name in ("n1", "n2")] == [0, 0]
    assert cloud.findings() == []


def _toil(url: str, directory: Path, life: int) -> None:
    """In a process that will be killed: machines come, move and go."""
    cloud = Cloud.at(url, directory)

    def work(worker: int) -> None:
        for number in itertools.count():
            port = PublishedPort(10000 + 100 * worker + life, 80)
            name = f"m{life}-{worker}-{number}"
            machine = cloud.placement.accept(
                MachineSpec(image="any", type="fake", id=name, node="n1", ports=(port,)), name
            )
            cloud.remove_machine(cloud.placement.replace(machine) if number % 2 else machine)

    for worker in range(WORKERS):
        threading.Thread(target=work, args=(worker,)).start()


def wait_for_events(cloud: Cloud, number: int, process: multiprocessing.process.BaseProcess) -> None:
    """Wait until the process has written as many events as make up `number` with those that were there."""
    while True:
        with cloud.read() as connection:
            if events.last_seq(connection) >= number:
                return
        assert process.is_alive()


def check_whole(cloud: Cloud) -> None:
    """Each machine has its operation and its history, and nothing else is there."""
    assert cloud.findings() == []
    there = cloud.all_machines()
    with cloud.read() as connection:
        assert {operation.target for operation in operations.running(connection)} == {each.id for each in there}
        assert {*machines.ports_of_node(connection, "n1").values()} <= {each.id for each in there}
    history = [event for event in cloud.events() if event.subject is Subject.MACHINE]
    came = {event.id for event in history if event.kind == "created"}
    went = {event.id for event in history if event.kind == "removed"}
    assert came - went == {each.id for each in there}
    seqs = [event.seq for event in cloud.events()]
    assert seqs == sorted(set(seqs))


def picture(cloud: Cloud) -> object:
    """Everything that a reader can see."""
    with cloud.read() as connection:
        return (
            cloud.all_machines(),
            [cloud.node(name) for name in ("n1", "n2")],
            operations.list(connection),
            events.since(connection, 0, 1000),
            machines.ports_of_node(connection, "n1"),
        )


def in_a_process(cloud: Cloud, url: str, directory: Path, act: Deed, crash_at: str) -> int:
    """Do something in a process of its own, which ends at a failpoint; returns its exit status."""
    cloud.database.close()  # no connection crosses into the other process
    pid = os.fork()
    if pid == 0:
        try:
            failpoints.arm(crash_at=crash_at)
            act(Cloud.at(url, directory))
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_machine_that_was_accepted_is_there_for_the_next_controller(cloud: Cloud, url: str, directory: Path) -> None:
    cloud.add_node("n1")

    def accept_and_die(other: Cloud) -> None:
        accept(other)
        os._exit(7)

    assert in_a_process(cloud, url, directory, accept_and_die, crash_at="") == 7
    again = cloud.placement.accept(SPEC, "key")
    assert cloud.all_machines() == [again]
    assert cloud.events()[-1].id == "web"
