"""Where the machines of a dead node go: one pass over all of them, each placed beside those before it. Values in, values out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from garbi.hyper_api.vocabulary import Protocol
from garbi.iaas.model.machine import Machine, Strategy
from garbi.iaas.scheduler.asking import Ask, Candidate
from garbi.iaas.scheduler.explanation import Explanation, Verdict
from garbi.iaas.scheduler.placing import place


@dataclass(frozen=True, slots=True)
class Placed:
    """A machine that is on a node, as far as others must or must not be beside it; `apart` is the key of a label."""

    id: str
    node: str
    labels: Mapping[str, str]
    apart: str | None


@dataclass(frozen=True, slots=True)
class Fleet:
    """All nodes as they stand, and every machine that is on one."""

    candidates: tuple[Candidate, ...]
    placed: tuple[Placed, ...]


@dataclass(frozen=True, slots=True)
class Move:
    """A machine, the node that it goes to, and why there."""

    machine: Machine
    to: str
    why: str


@dataclass(frozen=True, slots=True)
class Homeless:
    """A machine that fits nowhere, and why: in one line, and of each node that was asked."""

    machine: Machine
    why: str
    verdicts: tuple[Verdict, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to become of each machine."""

    moves: tuple[Move, ...]
    homeless: tuple[Homeless, ...]


def plan(
    stranded: Iterable[Machine],
    fleet: Fleet,
    strategy: Strategy,
    exclude: Mapping[str, frozenset[str]] | None = None,
) -> Plan:
    """Find a node for each machine, the largest first, those of one size by their age; `exclude` names, by the id of a machine,
    nodes that would not have it. A machine never goes to the node that it is on."""
    moves: list[Move] = []
    homeless: list[Homeless] = []
    for machine in sorted(stranded, key=lambda each: (-each.mem, each.created_at, each.id)):
        barred = (exclude or {}).get(machine.id, frozenset()) | {machine.node}
        explanation = _explain(machine, fleet, strategy, barred)
        if explanation.chosen is None:
            homeless.append(Homeless(machine, explanation.summary(), explanation.verdicts))
            continue
        moves.append(Move(machine, explanation.chosen, explanation.summary()))
        fleet = _with(fleet, machine, explanation.chosen)
    return Plan(tuple(moves), tuple(homeless))


def _explain(machine: Machine, fleet: Fleet, strategy: Strategy, barred: Iterable[str | None]) -> Explanation:
    shared = _shared_labels(machine, fleet.placed)
    key = machine.apart or min((key for key, _ in shared.values()), default=None)
    ask = Ask(
        type=machine.type,
        amounts=machine.amounts,
        ports=machine.ports,
        require=machine.require,
        apart=None if key is None else (key, machine.labels[key]),
        strategy=strategy,
    )
    value = "" if key is None else machine.labels[key]
    out = set(barred)
    return place(
        ask,
        [
            replace(each, apart_values=frozenset({value} if each.node.name in shared else ()))
            for each in fleet.candidates
            if each.node.name not in out
        ],
    )


def _shared_labels(machine: Machine, placed: Sequence[Placed]) -> dict[str, tuple[str, str]]:
    """The nodes where a machine is that must not be beside this one, and the label that both have."""
    found: dict[str, tuple[str, str]] = {}
    for other in placed:
        for key in filter(None, (machine.apart, other.apart)):
            if other.id != machine.id and key in machine.labels and other.labels.get(key) == machine.labels[key]:
                found.setdefault(other.node, (key, machine.labels[key]))
    return found


def _with(fleet: Fleet, machine: Machine, node: str) -> Fleet:
    """The fleet once the machine is on that node. What it had on its own counts no more for anybody: that node is dead."""
    placed = (
        *(each for each in fleet.placed if each.id != machine.id),
        Placed(machine.id, node, machine.labels, machine.apart),
    )
    return Fleet(tuple(_beside(each, machine, node) for each in fleet.candidates), placed)


def _beside(candidate: Candidate, machine: Machine, node: str) -> Candidate:
    """A candidate once the machine is on that node, which may be itself or share its host."""
    shared = candidate.shared
    if shared is not None and node in (candidate.node.name, *shared.beside):
        candidate = replace(candidate, shared=replace(shared, free=shared.free - machine.amounts))
    return _taking(candidate, machine) if candidate.node.name == node else candidate


def _taking(candidate: Candidate, machine: Machine) -> Candidate:
    ports: dict[tuple[Protocol, int], str] = dict(candidate.taken_ports)
    ports |= {(port.protocol, port.node_port): f"machine {machine.id}" for port in machine.ports}
    node = replace(candidate.node, reserved=candidate.node.reserved + machine.amounts)
    return replace(candidate, node=node, running=candidate.running + 1, taken_ports=ports)
