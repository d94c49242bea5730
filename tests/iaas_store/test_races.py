"""Many at once for the last port and the last memory: everyone gets a machine or a clear refusal, nobody gets too much."""

from __future__ import annotations

import multiprocessing
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from sqlalchemy import create_engine
from sqlalchemy.exc import IntegrityError
from tests.iaas_store.cloud import NOW, Cloud

from garbi.base.errors import AlreadyExists, Conflict, GarbiError, NothingFits, PortTaken
from garbi.hyper_api.vocabulary import PublishedPort
from garbi.iaas.model.event import Event, Subject
from garbi.iaas.model.machine import MachineSpec
from garbi.iaas.model.node import Amounts, NodeState
from garbi.iaas.store import events, machines, nodes, operations
from garbi.iaas.store.database import Transaction

CLIENTS = 64
PROCESSES = 4
WAIT_S = 120
MEM = 100
ROOM = 24
"""Machines of `MEM` for which node n1 has room."""

Work = Callable[[int], str]
OpenCloud = Callable[[], Cloud]


def spec_of(number: int) -> MachineSpec:
    """Every third client wants memory only; the others fight for eight ports besides."""
    ports = () if number % 3 == 0 else (PublishedPort(8000 + number % 8, 80), PublishedPort(9000 + number % 4, 81))
    return MachineSpec(image="any", type="fake", id=f"m{number}", mem=MEM, node="n1", ports=ports)


def outcome(cloud: Cloud, spec: MachineSpec, key: str | None = None) -> str:
    try:
        return cloud.placement.accept(spec, key).id
    except GarbiError as error:
        return type(error).__name__


def at_once(clients: int, work: Work) -> list[str]:
    """What each client got; all of them begin together."""
    barrier = threading.Barrier(clients, timeout=WAIT_S)

    def begin(number: int) -> str:
        barrier.wait()
        return work(number)

    with ThreadPoolExecutor(clients) as pool:
        return [*pool.map(begin, range(clients), timeout=WAIT_S)]


def test_sixty_four_clients_share_the_last_ports_and_the_last_memory(cloud: Cloud) -> None:
    cloud.add_node("n1", has=Amounts(ROOM * MEM, 1000, 1000))
    check_shared_out(cloud, at_once(CLIENTS, lambda number: outcome(cloud, spec_of(number))))


def test_clients_of_several_controllers_share_the_last_ports_and_the_last_memory(
    cloud: Cloud, url: str, directory: Path
) -> None:
    cloud.add_node("n1", has=Amounts(ROOM * MEM, 1000, 1000))
    fresh = multiprocessing.get_context("spawn")
    gate = fresh.Barrier(PROCESSES)
    answers = fresh.Queue()
    share = [range(first, CLIENTS, PROCESSES) for first in range(PROCESSES)]
    started = [fresh.Process(target=_compete, args=(url, directory, each, gate, answers)) for each in share]
    for process in started:
        process.start()
    try:
        got = [answer for _ in started for answer in answers.get(timeout=WAIT_S)]
    finally:
        for process in started:
            process.join(WAIT_S)
            process.kill()
    check_shared_out(cloud, got)


def _compete(url: str, directory: Path, numbers: Sequence[int], gate: threading.Barrier, answers: object) -> None:
    """In a process of its own: a controller with its share of the clients."""
    cloud = Cloud.at(url, directory)
    gate.wait(WAIT_S)
    answers.put(at_once(len(numbers), lambda index: outcome(cloud, spec_of(numbers[index]))))  # type: ignore[attr-defined]
    cloud.database.close()


def check_shared_out(cloud: Cloud, got: list[str]) -> None:
    """All memory is given, each port has one owner, every other client was refused in so many words."""
    there = cloud.all_machines()
    assert len(got) == CLIENTS
    assert sorted(name for name in got if name.startswith("m")) == sorted(machine.id for machine in there)
    assert {name for name in got if not name.startswith("m")} <= {"PortTaken", "NothingFits"}
    owners = Counter(port.node_port for machine in there for port in machine.ports)
    assert set(owners.values()) == {1}
    assert cloud.node().reserved.mem == MEM * len(there)
    # a port is free only for who has memory left, and the other way round: 22 want memory only, 4 pairs of ports can be had
    assert len(there) == min(ROOM, 22 + 4)
    assert cloud.findings() == []
    told = [event.id for event in cloud.events() if (event.subject, event.kind) == (Subject.MACHINE, "created")]
    assert sorted(told) == sorted(machine.id for machine in there)


def test_a_key_that_comes_many_times_at_once_makes_one_machine(cloud: Cloud) -> None:
    cloud.add_node()
    spec = replace(spec_of(1), id=None)
    got = at_once(CLIENTS, lambda number: outcome(cloud, spec, "one key"))
    assert [machine.id for machine in cloud.all_machines()] == [*{*got}]
    assert cloud.node().reserved.mem == MEM
    with cloud.read() as connection:
        assert len(operations.list(connection)) == 1


def test_an_id_that_comes_many_times_at_once_is_one_machine_s(cloud: Cloud) -> None:
    cloud.add_node()
    got = at_once(16, lambda number: outcome(cloud, replace(spec_of(0), id="web")))
    assert Counter(got) == {"web": 1, AlreadyExists.__name__: 15}
    assert cloud.node().reserved.mem == MEM


def test_a_machine_that_many_delete_at_once_gives_its_reservation_back_once(cloud: Cloud) -> None:
    cloud.add_node()
    cloud.add_machine("stays", mem=7)
    machine = cloud.add_machine("goes", mem=MEM)
    got = at_once(16, lambda number: str(cloud.remove_machine(machine)))
    assert Counter(got) == {"True": 1, "False": 15}
    assert cloud.node().reserved.mem == 7


def test_a_node_that_goes_while_machines_come_has_none_when_it_is_gone(cloud: Cloud) -> None:
    cloud.add_node("n1")

    def come_or_go(number: int) -> str:
        if number != 8:
            return outcome(cloud, spec_of(number * 3))
        try:
            with cloud.write() as transaction:
                nodes.set_state(transaction, "n1", NodeState.REMOVING, "", NOW)
            with cloud.write() as transaction:
                nodes.delete(transaction, "n1", NOW)
        except Conflict:
            return "stayed"
        return "gone"

    got = at_once(16, come_or_go)
    there = cloud.all_machines()
    assert got[8] == ("stayed" if there else "gone")
    assert sorted(name for name in got if name.startswith("m")) == sorted(machine.id for machine in there)
    assert {*got} - {machine.id for machine in there} <= {"stayed", "gone", NothingFits.__name__}
    assert cloud.findings() == []


def test_two_controllers_that_move_a_machine_move_it_once(open_cloud: OpenCloud) -> None:
    clouds = [open_cloud(), open_cloud()]
    for name in ("n1", "n2", "n3"):
        clouds[0].add_node(name)
    machine = clouds[0].add_machine("web", node="n1")

    def move(number: int) -> str:
        try:
            return str(clouds[number % 2].placement.replace(machine).node)
        except GarbiError as error:
            return error.code

    got = at_once(16, move)
    moved = clouds[0].machine("web")
    assert moved is not None
    assert (Counter(got), moved.epoch) == ({moved.node: 1, "stale-write": 15}, 2)
    assert sum(clouds[0].node(name).reserved.mem for name in ("n1", "n2", "n3")) == machine.mem


def test_a_reader_who_reads_on_misses_no_event(open_cloud: OpenCloud) -> None:
    writer, reader = open_cloud(), open_cloud()
    seen: list[Event] = []
    done = threading.Event()

    def follow() -> None:
        while True:
            last_round = done.is_set()
            with reader.read() as connection:
                found = events.since(connection, seen[-1].seq if seen else 0, 7)
            seen.extend(found)
            if last_round and not found:
                return

    def write(number: int) -> str:
        for step in range(8):
            with writer.write() as transaction:
                for part in range(3):
                    events.append(transaction, Subject.MACHINE, f"{number}.{step}.{part}", "state", NOW)
        return ""

    follower = threading.Thread(target=follow)
    follower.start()
    try:
        at_once(16, write)
    finally:
        done.set()
        follower.join(WAIT_S)
    assert [event.seq for event in seen] == sorted({event.seq for event in seen})
    assert len(seen) == 16 * 8 * 3
    assert seen == writer.events()
    of_one_write = [event.id for event in seen if event.id.startswith("5.3.")]
    assert of_one_write == ["5.3.0", "5.3.1", "5.3.2"]


def test_without_the_writers_lock_the_database_still_refuses_what_must_not_be(cloud: Cloud, url: str) -> None:
    """Conditional updates and constraints hold by themselves, under READ COMMITTED too."""
    cloud.add_node("n1", has=Amounts(10 * MEM, 1000, 1000))
    model = cloud.add_machine("model", node="n1", mem=MEM, ports=(PublishedPort(80, 80),))
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    gate = threading.Barrier(16, timeout=WAIT_S)

    def insert(number: int) -> str:
        port = PublishedPort(81 + number % 12, 80)
        machine = replace(model, id=f"m{number}", operation=None, ports=(port,))
        gate.wait()
        try:
            with engine.begin() as connection:
                transaction: Transaction = Transaction(connection)
                if not nodes.reserve(transaction, "n1", machine.amounts):
                    return NothingFits.__name__
                machines.insert(transaction, machine)
        except IntegrityError:
            return PortTaken.__name__
        return machine.id

    with ThreadPoolExecutor(16) as pool:
        got = [*pool.map(insert, range(16))]
    engine.dispose()
    assert len([name for name in got if name.startswith("m")]) == 9
    assert cloud.node().reserved.mem == 10 * MEM
    assert cloud.findings() == []
