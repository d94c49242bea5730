"""Where the machines of a dead node go: whatever the fleet, no plan promises what a node has not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from tests.scheduler.fleets import LONG_AGO, a_node, labels, nodes, ports

from garbi.hyper_api.vocabulary import NodeFailurePolicy, PublishedPort, RestartPolicy, State, Wish
from garbi.iaas.model.machine import Machine, Strategy
from garbi.iaas.model.node import Amounts, Node, NodeState
from garbi.iaas.monitor.failover import is_lost, is_stranded, lost_reason
from garbi.iaas.scheduler import Candidate, Fleet, Placed, plan


def a_machine(id: str = "m", **changes: Any) -> Machine:
    """A machine of 256 MiB and one processor that was lost with node `dead`, but for what is changed."""
    machine = Machine(
        id=id,
        name=id,
        type="fake",
        image="any",
        image_sha256="",
        mem=256,
        cpus=1,
        disk=0,
        node="dead",
        ports=(),
        labels={},
        require={},
        apart=None,
        full_copy=False,
        wish=Wish.RUNNING,
        state=State.FAILED,
        reason=lost_reason("dead", "it does not answer"),
        refused=False,
        address=None,
        restart=RestartPolicy.NO,
        on_node_failure=NodeFailurePolicy.RECREATE,
        generation=1,
        told_generation=1,
        settled_generation=1,
        epoch=1,
        operation=None,
        seen_at=None,
        created_at=LONG_AGO,
        updated_at=LONG_AGO,
    )
    return replace(machine, **changes)


def a_fleet(*found: Node, placed: Sequence[Placed] = ()) -> Fleet:
    """Nodes on which nothing publishes a port."""
    return Fleet(tuple(Candidate(node) for node in found), tuple(placed))


def test_machines_are_spread_over_the_nodes_that_are_left() -> None:
    fleet = a_fleet(a_node("dead", state=NodeState.UNAVAILABLE), a_node("a"), a_node("b"))
    found = plan([a_machine(f"m{number}") for number in range(6)], fleet, Strategy.SPREAD)
    assert Counter(move.to for move in found.moves) == {"a": 3, "b": 3}
    assert all(move.why for move in found.moves)


def test_what_fits_nowhere_is_said_with_the_reason() -> None:
    fleet = a_fleet(a_node("dead", state=NodeState.UNAVAILABLE), a_node("a", limit=Amounts(300, 16, 1000)))
    found = plan([a_machine("one"), a_machine("two"), a_machine("big", mem=4000)], fleet, Strategy.SPREAD)
    assert [move.machine.id for move in found.moves] == ["one"]
    assert {each.machine.id: each.why for each in found.homeless} == {
        "big": "memory on 1 node",
        "two": "memory on 1 node",
    }


def test_a_published_port_goes_only_where_it_is_free() -> None:
    port = (PublishedPort(8080, 80),)
    fleet = a_fleet(a_node("a"), a_node("b"))
    found = plan(
        [a_machine("one", ports=port), a_machine("two", ports=port), a_machine("three", ports=port)],
        fleet,
        Strategy.PACK,
    )
    assert sorted(move.to for move in found.moves) == ["a", "b"]
    assert found.homeless[0].why == "port 8080/tcp taken on 2 nodes"


def test_machines_that_are_to_be_apart_stay_apart() -> None:
    web = {"app": "web"}
    there = Placed("other", "a", web, "app")
    found = plan(
        [a_machine("one", labels=web, apart="app"), a_machine("two", labels=web)],
        a_fleet(a_node("a"), a_node("b"), placed=[there]),
        Strategy.SPREAD,
    )
    assert [(move.machine.id, move.to) for move in found.moves] == [("one", "b")]
    assert [each.machine.id for each in found.homeless] == ["two"]


def test_a_node_that_would_not_have_a_machine_is_not_asked_again() -> None:
    found = plan([a_machine()], a_fleet(a_node("a"), a_node("b")), Strategy.SPREAD, {"m": frozenset({"a"})})
    assert [move.to for move in found.moves] == ["b"]


def test_what_had_failed_by_itself_or_is_wished_stopped_or_stays_is_not_moved() -> None:
    assert is_stranded(a_machine())
    assert not is_stranded(a_machine(reason="exited with code 3"))
    assert not is_stranded(a_machine(wish=Wish.STOPPED))
    assert not is_stranded(a_machine(wish=Wish.REMOVED))
    assert not is_stranded(a_machine(on_node_failure=NodeFailurePolicy.STAY))
    assert not is_stranded(a_machine(state=State.UNKNOWN))


def test_a_machine_that_stays_is_lost_only_by_a_proof_that_covers_it() -> None:
    stays = a_machine(on_node_failure=NodeFailurePolicy.STAY)
    assert is_lost(stays)
    assert not is_lost(replace(stays, state=State.UNKNOWN, reason="node dead is unreachable"))
    assert is_lost(a_machine(state=State.UNKNOWN, reason="node dead is unreachable"))


machines = st.lists(
    st.builds(
        a_machine,
        st.uuids().map(str),
        mem=st.integers(1, 2048),
        cpus=st.integers(1, 8),
        disk=st.integers(0, 500),
        ports=st.lists(ports, max_size=2, unique_by=lambda port: (port.protocol, port.node_port)).map(tuple),
        labels=labels,
        created_at=st.integers(0, 100).map(lambda days: LONG_AGO + timedelta(days=days)),
    ).flatmap(lambda one: st.sampled_from([None, *one.labels]).map(lambda key: replace(one, apart=key))),
    max_size=12,
)
found_nodes = st.lists(nodes, max_size=6, unique_by=lambda node: node.name)


@given(machines, found_nodes, st.sampled_from(Strategy))
def test_no_plan_promises_more_than_a_node_has_or_one_port_twice(
    stranded: list[Machine], left: list[Node], strategy: Strategy
) -> None:
    found = plan(stranded, a_fleet(*left), strategy)
    by_name = {node.name: node for node in left}
    assert len(found.moves) + len(found.homeless) == len(stranded)
    planned = {move.machine.id for move in found.moves} | {each.machine.id for each in found.homeless}
    assert planned == {each.id for each in stranded}
    for name, node in by_name.items():
        there = [move.machine for move in found.moves if move.to == name]
        if there:
            assert node.state is NodeState.READY
            assert not node.draining
        total = node.reserved
        for machine in there:
            total = total + machine.amounts
        limit = node.limit
        assert not there or (total.mem <= limit.mem and total.cpus <= limit.cpus and total.disk <= limit.disk)
        published = [(port.protocol, port.node_port) for machine in there for port in machine.ports]
        assert len(published) == len(set(published))
        for one in there:
            for two in there:
                if one is not two and one.apart is not None and one.apart in two.labels:
                    assert one.labels[one.apart] != two.labels[one.apart]


@given(machines, found_nodes, st.sampled_from(Strategy), st.randoms())
def test_the_order_of_machines_and_nodes_changes_nothing(
    stranded: list[Machine], left: list[Node], strategy: Strategy, random: Any
) -> None:
    first = plan(stranded, a_fleet(*left), strategy)
    mixed_machines, mixed_nodes = [*stranded], [*left]
    random.shuffle(mixed_machines)
    random.shuffle(mixed_nodes)
    second = plan(mixed_machines, a_fleet(*mixed_nodes), strategy)
    assert [(move.machine.id, move.to) for move in first.moves] == [(move.machine.id, move.to) for move in second.moves]
