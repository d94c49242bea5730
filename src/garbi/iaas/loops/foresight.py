"""What would follow if a node died now: which fence could prove it and when, what would move and where, what would stay, what
would fit nowhere.

It asks the same questions as the failover, of the same fences and of the same planning, and has no effect: nothing is written
down, nothing is remembered, no host is asked or touched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from garbi.base.errors import NotFound
from garbi.hyper_api.vocabulary import NodeFailurePolicy, State, Wish
from garbi.iaas.fences.protocol import Fence, Fences, Scope
from garbi.iaas.loops.failover import LEAVING_S
from garbi.iaas.loops.replanning import Replanning, is_by_word
from garbi.iaas.loops.silence import Silences
from garbi.iaas.model.machine import Machine, Moving
from garbi.iaas.model.node import Node, NodeState
from garbi.iaas.monitor.failover import (
    UP,
    Condition,
    after_loss,
    ended_by_itself,
    is_stranded,
    lost_reason,
    too_many_dead,
)
from garbi.iaas.monitor.verdict import SILENT, is_watched
from garbi.iaas.scheduler import Homeless, Move, Plan, Verdict
from garbi.iaas.store import machines, nodes
from garbi.iaas.store.database import Database
from garbi.iaas_api.placement import Lot

WORDS = "it would be dead"
LONGEST_REASON = 200
"""Characters of what a machine says of itself that are repeated."""


@dataclass(frozen=True, slots=True)
class Fate:
    """The lot of one machine of the node: where it would go (`to`), and why so; `verdicts` are of the nodes that could not take
    one that fits nowhere."""

    id: str
    lot: Lot
    why: str
    to: str | None = None
    verdicts: tuple[Verdict, ...] = ()


@dataclass(frozen=True, slots=True)
class Prospect:
    """What one fence could do: what its proof would cover, and within how many seconds after the last answer of the node it
    would have it, if those before it have none. `why_not`: it could prove nothing, and why."""

    fence: str
    why_not: str = ""
    covers: Scope | None = None
    within_s: float | None = None


@dataclass(frozen=True, slots=True)
class WhatIf:
    """What would follow if the node died now.

    `tried_after_s`: after so many seconds of silence the first fence is tried.
    `held` says why nothing would be fenced or moved even then; the machines' fates are what would follow the operator's word.
    `beside` are machines of other nodes that wait for room, and that are given theirs in the same pass.
    """

    node: Node
    tried_after_s: float
    held: str
    fences: tuple[Prospect, ...]
    machines: tuple[Fate, ...]
    beside: tuple[str, ...]

    def summary(self) -> str:
        """The whole in one line."""
        told = []
        for lot, one, many in (
            (Lot.MOVES, "moves", "move"), (Lot.STAYS, "stays", "stay"), (Lot.FITS_NOWHERE, "fits nowhere", "fit nowhere"),
        ):  # fmt: skip
            number = sum(fate.lot is lot for fate in self.machines)
            told += [f"{number} {one if number == 1 else many}"] if number else []
        return f"{', '.join(told) or 'no machine is there'}; {self._when()}"

    def _when(self) -> str:
        if self.held:
            return f"but not by itself: {self.held}"
        if self.node.state is NodeState.UNAVAILABLE:
            return f"it is known to be dead already: {self.node.reason}"
        able = [each for each in self.fences if not each.why_not]
        if not able:
            return f"but not by itself: no fence could prove it; if its host is off: iaas node confirm-dead {self.node.name}"
        return ", ".join(f"{each.fence} could prove it within {each.within_s:.0f} s" for each in able)


@dataclass(frozen=True, slots=True)
class ForesightParts:
    """What it asks. `tried_after_s`: after so many seconds of silence a node is unreachable, and the fences are tried."""

    database: Database
    fences: Fences
    replanning: Replanning
    silences: Silences
    tried_after_s: float


class Foresight:
    """Answers what would follow if a node died; for any thread."""

    def __init__(self, parts: ForesightParts) -> None:
        self._parts = parts

    def of(self, name: str) -> WhatIf:
        """What would follow if that node died now; raises NotFound."""
        parts = self._parts
        with parts.database.read() as connection:
            known = nodes.list(connection)
            node = next((each for each in known if each.name == name), None)
            if node is None:
                raise NotFound(f"no node is called {name[:80]!r}")
            now = parts.silences.peek(known)
            conditions = [_fallen(each, node) for each in now]
            mass = too_many_dead(conditions)
            held = self._held(connection, node, "" if mass is None else mass.words())
            there = machines.of_node(connection, name)
            lost = [(machine, _lost(machine, node)) for machine in there]
            dead = [each.name for each in now if each.state is NodeState.UNAVAILABLE]
            stranded = [after for _, after in lost if is_stranded(after)]
            plan = parts.replanning.foresee(connection, name, stranded, dead, stopped=mass is not None)
        own = next(each for each in now if each.name == name)
        begun_s = parts.tried_after_s + (LEAVING_S if _is_expected_back(node, own) else 0.0)
        return WhatIf(
            node=node,
            tried_after_s=begun_s,
            held=held,
            fences=() if node.state is NodeState.UNAVAILABLE else tuple(_prospects(parts.fences, node, begun_s)),
            machines=_fates(lost, plan),
            beside=_beside(name, plan),
        )

    def _held(self, connection: Connection, node: Node, mass: str) -> str:
        """Why nothing would follow but by the operator's word."""
        if node.state is NodeState.UNAVAILABLE:
            if self._parts.replanning.seems_returning(node.name):
                return "the node answers again, and its machines are left to it"
            return "" if is_by_word(connection, node.name) else mass
        if _is_left_alone(node):
            return f"the node is {node.state}: nothing of it is fenced or moved"
        return mass or self._parts.fences.barred() or ""


def _is_left_alone(node: Node) -> bool:
    """Whether nothing follows from the silence of a node: it is not one of the cloud yet, or no more."""
    return node.state is NodeState.REMOVING or not is_watched(node)


def _is_expected_back(node: Node, condition: Condition) -> bool:
    """Whether no fence is tried for a while, since the host said that it goes down."""
    waited = condition.state in SILENT and condition.for_s >= LEAVING_S
    return node.leaving_at is not None and not waited


def _fallen(condition: Condition, node: Node) -> Condition:
    """The condition of a node, which has just fallen silent if it is that one, as far as anybody would notice."""
    if condition.name != node.name or node.state in SILENT or _is_left_alone(node):
        return condition
    return Condition(condition.name, NodeState.UNREACHABLE, 0.0, 0.0)


def _lost(machine: Machine, node: Node) -> Machine:
    """A machine as it would be. Of a node that is known to be dead all is written down already; and no proof but that of the
    whole host covers what may not be created again."""
    if node.state is NodeState.UNAVAILABLE or _is_left_alone(node) or machine.on_node_failure is NodeFailurePolicy.STAY:
        return machine
    return after_loss(machine, lost_reason(node.name, WORDS))


def _prospects(fences: Iterable[Fence], node: Node, begun_s: float) -> Iterable[Prospect]:
    for fence in fences:
        why_not = fence.applies_to(node)
        if why_not is not None:
            yield Prospect(fence.name, why_not)
            continue
        found = fence.outlook(node)
        if found.why_not:
            yield Prospect(fence.name, found.why_not)
            continue
        begun_s = max(begun_s, found.takes_s) if found.since_heard else begun_s + found.takes_s
        yield Prospect(fence.name, covers=found.scope, within_s=begun_s)


def _fates(lost: Sequence[tuple[Machine, Machine]], plan: Plan) -> tuple[Fate, ...]:
    moves: dict[str, Move] = {each.machine.id: each for each in plan.moves}
    homeless: dict[str, Homeless] = {each.machine.id: each for each in plan.homeless}
    fates = []
    for before, after in lost:
        move, none = moves.get(before.id), homeless.get(before.id)
        if move is not None:
            fates.append(Fate(before.id, Lot.MOVES, _leaving(before, move.why.removeprefix(f"{move.to}: ")), move.to))
        elif none is not None:
            fates.append(Fate(before.id, Lot.FITS_NOWHERE, _leaving(before, none.why), verdicts=none.verdicts))
        else:
            fates.append(Fate(before.id, Lot.STAYS, _why_it_stays(before, after)))
    return tuple(fates)


def _beside(name: str, plan: Plan) -> tuple[str, ...]:
    planned = [*(each.machine for each in plan.moves), *(each.machine for each in plan.homeless)]
    return tuple(sorted(machine.id for machine in planned if machine.node != name))


def _leaving(machine: Machine, why: str) -> str:
    """The reason of a lot, for a machine that was on its way already, too."""
    if machine.moving is Moving.NO:
        return why
    return f"{why}; it is on its way already{f': {machine.moving_why}' if machine.moving_why else ''}"


REASONS: tuple[tuple[Callable[[Machine, Machine], bool], Callable[[Machine], str]], ...] = (
    (lambda before, after: before.wish is Wish.REMOVED, lambda each: "it is being removed"),
    (
        lambda before, after: before.on_node_failure is NodeFailurePolicy.STAY,
        lambda each: "its policy is stay: it waits for its node, where its disk is",
    ),
    (lambda before, after: after.wish not in UP, lambda each: "it is not to run"),
    (
        lambda before, after: before.state is State.UNKNOWN,
        lambda each: f"nothing proves that it has stopped; if the host is off: iaas node confirm-dead {each.node}",
    ),
    (lambda before, after: before.refused, lambda each: f"its node would not have it: {_clipped(each.reason)}"),
    (lambda before, after: ended_by_itself(before), lambda each: f"it failed by itself: {_clipped(each.reason)}"),
)
"""Why a machine is not created again elsewhere, the first that is so."""


def _why_it_stays(before: Machine, after: Machine) -> str:
    for is_so, words in REASONS:
        if is_so(before, after):
            return words(before)
    return f"it is {before.state}{f': {_clipped(before.reason)}' if before.reason else ''}"


def _clipped(text: str) -> str:
    return text if len(text) <= LONGEST_REASON else text[: LONGEST_REASON - 1] + "…"
