"""Machines in the database: who may write what of them, and what a write that comes too late changes (nothing)."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from tests.iaas_store.cloud import NOW, Cloud

from garbi.base.errors import InvalidField, StaleWrite, UnknownFilter
from garbi.hyper_api.vocabulary import Protocol, PublishedPort, State, Wish
from garbi.iaas.model.machine import Machine
from garbi.iaas.model.node import Amounts
from garbi.iaas.store import machines, nodes

LATER = NOW + timedelta(seconds=1)


@pytest.fixture
def machine(cloud: Cloud) -> Machine:
    """A machine with ports on node n1; n2 is another."""
    cloud.add_node("n1")
    cloud.add_node("n2")
    ports = (PublishedPort(80, 8080), PublishedPort(53, 53, Protocol.UDP))
    return cloud.add_machine(
        "web", node="n1", ports=ports, labels={"app": "ü'\""}, require={}, disk=7, mem=100, apart="app"
    )


def test_a_machine_is_read_as_it_was_accepted(cloud: Cloud, machine: Machine) -> None:
    assert cloud.machine("web") == machine
    assert cloud.all_machines() == [machine]
    assert machine.ports == (PublishedPort(53, 53, Protocol.UDP), PublishedPort(80, 8080))
    assert cloud.node("n1").reserved == Amounts(100, 1, 7)
    with cloud.read() as connection:
        assert machines.of_node(connection, "n1") == [machine]
        assert machines.of_node(connection, "n2") == []
        assert machines.ports_of_node(connection, "n1") == {(Protocol.TCP, 80): "web", (Protocol.UDP, 53): "web"}


def test_a_wish_is_a_new_generation_and_only_for_who_knows_the_last(cloud: Cloud, machine: Machine) -> None:
    with cloud.write() as transaction:
        wished = machines.save_wish(transaction, machine, Wish.STOPPED, LATER, "op2")
    assert (wished.generation, wished.wish, wished.operation) == (2, Wish.STOPPED, "op2")
    assert cloud.machine("web") == wished
    with pytest.raises(StaleWrite), cloud.write() as transaction:
        machines.save_wish(transaction, machine, Wish.REMOVED, LATER, "op3")
    assert cloud.machine("web") == wished


def test_what_is_found_out_leaves_a_wish_that_came_meanwhile(cloud: Cloud, machine: Machine) -> None:
    with cloud.write() as transaction:
        machines.save_wish(transaction, machine, Wish.STOPPED, LATER, None)
        running = replace(machine, state=State.RUNNING, told_generation=1, settled_generation=1, seen_at=LATER)
        assert machines.save_state(transaction, machine, running)
    now = cloud.machine("web")
    assert now is not None
    assert (now.state, now.wish, now.settled, now.seen_at) == (State.RUNNING, Wish.STOPPED, False, LATER)
    assert [(event.kind, event.actor) for event in cloud.events()[-2:]] == [("wish", "user"), ("state", "node:n1")]


def test_what_is_found_out_too_late_changes_nothing(cloud: Cloud, machine: Machine) -> None:
    creating = replace(machine, state=State.CREATING, told_generation=1)
    with cloud.write() as transaction:
        assert machines.save_state(transaction, machine, creating)
        assert not machines.save_state(transaction, machine, replace(machine, state=State.FAILED))
        moved = machines.move(transaction, _reserved(transaction, creating, "n2"), "n2", LATER)
        assert not machines.save_state(transaction, creating, replace(creating, state=State.RUNNING))
        assert not machines.save_state(transaction, replace(moved, epoch=1), replace(moved, state=State.RUNNING))
    assert cloud.machine("web") == moved


def test_a_moved_machine_takes_its_ports_along_and_leaves_no_reservation(cloud: Cloud, machine: Machine) -> None:
    with cloud.write() as transaction:
        moved = machines.move(transaction, _reserved(transaction, machine, "n2"), "n2", LATER)
    assert (moved.node, moved.epoch, moved.state, moved.told_generation) == ("n2", 2, State.PENDING, 0)
    assert cloud.machine("web") == moved
    assert (cloud.node("n1").reserved, cloud.node("n2").reserved) == (Amounts(), machine.amounts)
    with cloud.read() as connection:
        assert machines.ports_of_node(connection, "n1") == {}
        assert len(machines.ports_of_node(connection, "n2")) == 2
    assert cloud.findings() == []


def test_a_machine_is_not_moved_twice_nor_when_it_is_wished_away(cloud: Cloud, machine: Machine) -> None:
    with cloud.write() as transaction:
        moved = machines.move(transaction, _reserved(transaction, machine, "n2"), "n2", LATER)
    with pytest.raises(StaleWrite), cloud.write() as transaction:
        machines.move(transaction, _reserved(transaction, machine, "n2"), "n2", LATER)
    with cloud.write() as transaction:
        gone = machines.save_wish(transaction, moved, Wish.REMOVED, LATER, None)
    with pytest.raises(StaleWrite), cloud.write() as transaction:
        machines.move(transaction, _reserved(transaction, gone, "n1"), "n1", LATER)
    assert cloud.machine("web") == gone
    assert [finding.invariant for finding in cloud.findings()] == ["I7"]  # nobody ended the operation it was made in


def test_a_machine_is_deleted_once_and_gives_its_reservation_back_once(cloud: Cloud, machine: Machine) -> None:
    cloud.add_machine("other", node="n1", mem=50)
    with cloud.write() as transaction:
        assert not machines.delete(transaction, replace(machine, epoch=2), "user", "", LATER)
        assert machines.delete(transaction, machine, "node:n1", "asked for", LATER)
        assert not machines.delete(transaction, machine, "node:n1", "asked for", LATER)
    assert cloud.machine("web") is None
    assert cloud.node("n1").reserved == Amounts(50, 1, 0)
    assert [finding.invariant for finding in cloud.findings()] == ["I7"]  # nobody ended its operation
    with cloud.read() as connection:
        removal = machines.removal_of(connection, "web")
        assert machines.removal_of(connection, "other") is None
    assert removal is not None
    assert (removal.kind, removal.actor, removal.reason, removal.at) == ("removed", "node:n1", "asked for", LATER)


def test_a_successor_with_the_same_id_is_another_machine(cloud: Cloud, machine: Machine) -> None:
    with cloud.write() as transaction:
        machines.delete(transaction, machine, "user", "", LATER)
    successor = cloud.add_machine("web", node="n1")
    with cloud.write() as transaction:
        assert not machines.save_state(transaction, machine, replace(machine, state=State.RUNNING))
        assert not machines.delete(transaction, machine, "user", "", LATER)
    assert cloud.machine("web") == successor
    with cloud.read() as connection:
        assert machines.removal_of(connection, "web") is None


def test_nothing_is_known_of_the_machines_of_a_silent_node_but_that_they_failed_or_were_never_told(
    cloud: Cloud,
) -> None:
    cloud.add_node("n1")
    cloud.add_node("n2")
    for state in (State.RUNNING, State.STOPPED, State.FAILED, State.PENDING):
        machine = cloud.add_machine(f"m-{state}", node="n1")
        with cloud.write() as transaction:
            machines.save_state(transaction, machine, replace(machine, state=state))
    elsewhere = cloud.add_machine("elsewhere", node="n2")
    with cloud.write() as transaction:
        assert machines.mark_node_unknown(transaction, "n1", "silent since", LATER) == ["m-running", "m-stopped"]
        assert machines.mark_node_unknown(transaction, "n1", "silent since", LATER) == []
    with cloud.read() as connection:
        states = {machine.id: machine.state for machine in machines.of_node(connection, "n1")}
    assert sorted(states.values()) == [State.FAILED, State.PENDING, State.UNKNOWN, State.UNKNOWN]
    assert cloud.machine("elsewhere") == elsewhere


def test_a_list_takes_fields_a_limit_and_a_marker(cloud: Cloud) -> None:
    cloud.add_node("n1")
    for number in range(5):
        cloud.add_machine(f"m{number}", mem=64 if number % 2 else 128, ports=_two(number), node="n1")

    def found(filters: dict[str, str] | None = None, limit: int | None = None, marker: str | None = None) -> list[str]:
        with cloud.read() as connection:
            return [machine.id for machine in machines.search(connection, filters, limit, marker)]

    assert found() == ["m0", "m1", "m2", "m3", "m4"]
    assert found({"mem": "128", "node": "n1"}) == ["m0", "m2", "m4"]
    assert found({"mem": "128"}, limit=1, marker="m0") == ["m2"]
    assert found({"wish": "stopped"}) == []
    assert found({"name": "a\0b"}) == []
    assert found(marker="m3", limit=10) == ["m4"]
    assert found(limit=0) == []
    for filters, marker in (({"mem": "lots"}, None), ({"mem": "9" * 19}, None), (None, "nobody")):
        with pytest.raises(InvalidField):
            found(filters, marker=marker)
    with pytest.raises(UnknownFilter):
        found({"colour": "red"})


def test_the_machines_of_each_node_are_counted(cloud: Cloud, machine: Machine) -> None:
    cloud.add_machine("other", node="n1")
    with cloud.read() as connection:
        assert machines.count_on(connection) == {"n1": 2}


def _reserved(transaction: machines.Transaction, machine: Machine, node: str) -> Machine:
    assert nodes.reserve(transaction, node, machine.amounts)
    return machine


def _two(number: int) -> tuple[PublishedPort, ...]:
    return (PublishedPort(100 + number, 1), PublishedPort(200 + number, 1))
