"""Nodes for the scheduler's tests: made by hand, by hypothesis, and as a fleet that machines are placed on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from hypothesis import strategies as st

from garbi.hyper_api.vocabulary import Protocol, PublishedPort
from garbi.iaas.model.machine import Strategy
from garbi.iaas.model.node import Amounts, DriverState, Load, Node, NodeState, Overcommit, Ssh
from garbi.iaas.scheduler import Ask, Candidate, Explanation, place

LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)
LABELS: Mapping[str, str] = {}


def a_node(name: str = "a", **changes: Any) -> Node:
    """A node of 4 GiB, 16 processors, 100 GiB, on which everything runs, but for what is changed."""
    whole = Amounts(4096, 16, 102_400)
    node = Node(
        name=name,
        host="127.0.0.1",
        port=8081,
        provision=False,
        ssh=Ssh(),
        labels={},
        overcommit=Overcommit(),
        state=NodeState.READY,
        reason="",
        draining=False,
        has=whole,
        limit=whole,
        reserved=Amounts(),
        load=Load(),
        architecture="x86_64",
        drivers=(DriverState("fake", True), DriverState("docker", True), DriverState("libvirt", True)),
        versions={},
        cluster_id="",
        boot_id="",
        epoch=0,
        operation=None,
        seen_at=LONG_AGO,
        created_at=LONG_AGO,
        updated_at=LONG_AGO,
    )
    return replace(node, **changes)


def an_ask(**changes: Any) -> Ask:
    """A machine of 256 MiB and one processor, but for what is changed."""
    return replace(Ask("fake", Amounts(256, 1, 0)), **changes)


def some(candidates: list[Node], **changes: Any) -> list[Candidate]:
    """The nodes as candidates."""
    return [Candidate(node, **changes) for node in candidates]


amounts = st.builds(Amounts, st.integers(0, 4096), st.integers(0, 16), st.integers(0, 1000))
ports = st.builds(PublishedPort, st.integers(80, 83), st.just(80), st.sampled_from(Protocol))
keys, values = st.sampled_from(["zone", "disk"]), st.sampled_from(["one", "two"])
labels = st.dictionaries(keys, values, max_size=2)
drivers = st.builds(
    DriverState, st.sampled_from(["fake", "docker"]), st.booleans(), st.sampled_from(["", "not installed"])
)
loads = st.builds(Load, st.floats(allow_nan=True), st.integers(-1, 10_000))
nodes = st.builds(
    a_node,
    st.sampled_from([f"n{number}" for number in range(8)]),
    state=st.sampled_from([NodeState.READY, NodeState.READY, *NodeState]),
    draining=st.booleans(),
    labels=labels,
    limit=amounts,
    reserved=amounts,
    has=amounts,
    load=loads,
    architecture=st.sampled_from(["x86_64", "aarch64", ""]),
    drivers=st.lists(drivers, max_size=2).map(tuple),
)
candidates = st.builds(
    Candidate,
    nodes,
    st.integers(0, 5),
    st.dictionaries(st.tuples(st.sampled_from(Protocol), st.integers(80, 83)), st.just("machine web"), max_size=2),
    st.frozensets(values, max_size=1),
)
fleets = st.lists(candidates, max_size=8, unique_by=lambda candidate: candidate.node.name)
asks = st.builds(
    Ask,
    st.sampled_from(["fake", "docker", "libvirt"]),
    st.builds(Amounts, st.integers(1, 2048), st.integers(1, 8), st.integers(0, 500)),
    st.sampled_from([None, None, "x86_64"]),
    st.sampled_from([None, None, None, "n0", "n9"]),
    st.lists(ports, max_size=2).map(tuple),
    st.one_of(st.just(LABELS), labels),
    st.one_of(st.none(), st.tuples(keys, values)),
    st.sampled_from(Strategy),
)


@dataclass
class Fleet:
    """Nodes that keep what is placed on them."""

    nodes: dict[str, Node]
    machines: dict[str, list[Ask]] = field(default_factory=dict)

    @classmethod
    def of(cls, nodes: list[Node]) -> Fleet:
        return cls({node.name: node for node in nodes}, {node.name: [] for node in nodes})

    def candidates(self, ask: Ask) -> list[Candidate]:
        """The nodes as they stand, for a machine."""
        found = []
        for name, node in self.nodes.items():
            there = self.machines[name]
            taken = {(port.protocol, port.node_port): "a machine" for each in there for port in each.ports}
            apart = frozenset(
                each.apart[1] for each in there if each.apart and ask.apart and each.apart[0] == ask.apart[0]
            )
            found.append(Candidate(node, len(there), taken, apart))
        return found

    def add(self, ask: Ask) -> Explanation:
        """Place a machine, if it fits."""
        answer = place(ask, self.candidates(ask))
        if answer.chosen is not None:
            node = self.nodes[answer.chosen]
            self.nodes[node.name] = replace(node, reserved=node.reserved + ask.amounts)
            self.machines[node.name].append(ask)
        return answer

    def remove(self, name: str) -> None:
        """Remove the last machine of a node, if it has one."""
        if self.machines[name]:
            gone = self.machines[name].pop()
            self.nodes[name] = replace(self.nodes[name], reserved=self.nodes[name].reserved - gone.amounts)

    def counts(self) -> list[int]:
        """How many machines each node has."""
        return [len(there) for there in self.machines.values()]
