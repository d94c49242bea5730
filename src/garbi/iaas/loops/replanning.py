"""Has machines created again elsewhere that have no node: one pass over all of them, which explains itself.

What decides is pure (`scheduler.plan`); each move is a transaction of its own, which rests on nothing that was read before it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from garbi.base.clock import Clock
from garbi.base.errors import Busy, GarbiError, StaleWrite
from garbi.base.failpoints import reach
from garbi.hyper_api.vocabulary import NodeFailurePolicy, State, Wish
from garbi.iaas.converge import Mirror
from garbi.iaas.leadership import Superseded
from garbi.iaas.loops.hindsight import Elsewhere, Finding, Hindsight
from garbi.iaas.loops.records import Records
from garbi.iaas.model.event import Subject
from garbi.iaas.model.machine import Machine, Moving, Strategy
from garbi.iaas.model.node import Node, NodeState
from garbi.iaas.model.sharing import share_hosts
from garbi.iaas.monitor.failover import UP, is_stranded
from garbi.iaas.scheduler import Candidate, Fleet, Homeless, Move, Placed, Plan, plan
from garbi.iaas.store import candidates, events, machines, nodes, restoring
from garbi.iaas.store.database import Database, Transaction

log = logging.getLogger(__name__)

ROUNDS = 3
"""How often a pass is planned anew in which somebody else was first."""

ANSWERED_S, LONGEST_RETURN_S = 30.0, 300.0
"""A node that is said to be dead and has answered so lately is on its way back, with its machines; but not for ever."""

REFUSED_FOR_S = 600.0
"""How long a node that refused a machine is not asked again for it."""

MOST_NAMED = 20
FITS_NOWHERE = "; fits nowhere: "
WAITS = "; waits until it is known where it is: "


@dataclass(frozen=True, slots=True)
class ReplanningParts:
    """What it works with. `heard_since` tells whether a node has answered after a moment of the monotonic clock, `wake` has a
    machine looked at by its worker."""

    database: Database
    records: Records
    clock: Clock
    strategy: Strategy
    wake: Callable[[Machine], None]
    heard_since: Callable[[str, float], bool]
    hindsight: Hindsight


class Replanning:
    """One thread at a time calls `look`."""

    def __init__(self, parts: ReplanningParts) -> None:
        self._parts = parts
        self._refusals: dict[tuple[str, str], float] = {}
        self._answering: dict[str, float] = {}
        self._dead: Mapping[str, float] = {}
        self._explained: dict[str, str] = {}

    def look(self, dead: Mapping[str, float], *, stopped: bool) -> None:
        """Find a node for every machine that has none; `stopped`: for those alone whose node an operator says is dead, and for
        those that have left theirs.

        `dead` are the unavailable nodes, and since when (monotonic clock) they are.
        """
        self._dead = dead
        self._answering = {name: at for name, at in self._answering.items() if name in dead}
        self._explained = {name: words for name, words in self._explained.items() if name in dead}
        for _ in range(ROUNDS):
            with self._parts.database.read() as connection:
                stranded = _stranded(connection, [name for name in dead if not self._is_returning(name)], stopped)
            unclear = self._parts.hindsight.look(stranded)
            for machine in stranded:
                if machine.id in unclear:
                    self._wait(machine, unclear[machine.id])
            stranded = [machine for machine in stranded if machine.id not in unclear]
            if not stranded or self._pass(stranded):
                return

    def foresee(
        self, connection: Connection, name: str, lost: Iterable[Machine], dead: Iterable[str], *, stopped: bool
    ) -> Plan:
        """The plan if that node died now and these were its machines that are to run elsewhere: one pass over them and over all
        that wait beside them, on the other nodes that are `dead`, or on none. Nothing is written down or remembered.
        """
        now = self._parts.clock.monotonic()
        others = [each for each in dead if each != name and not self.seems_returning(each)]
        waiting = _stranded(connection, others, stopped)
        stranded = list({machine.id: machine for machine in (*waiting, *lost)}.values())
        refusals = _with_refused(_lately(dict(self._refusals), now), stranded, now)
        return plan(stranded, _fleet(connection, but=name), self._parts.strategy, _barring(refusals, stranded))

    def seems_returning(self, name: str) -> bool:
        """Whether a node that is said to be dead answers, so that its machines are left to it for a while."""
        now = self._parts.clock.monotonic()
        return self._answers(name, now) and now - self._answering.get(name, now) < LONGEST_RETURN_S

    def _is_returning(self, name: str) -> bool:
        now = self._parts.clock.monotonic()
        if not self._answers(name, now):
            self._answering.pop(name, None)
            return False
        return now - self._answering.setdefault(name, now) < LONGEST_RETURN_S

    def _answers(self, name: str, now: float) -> bool:
        return self._parts.heard_since(name, max(self._dead.get(name, now), now - ANSWERED_S))

    def _wait(self, machine: Machine, finding: Finding) -> None:
        """Write down where a machine was found, or what is to be known before it is made elsewhere."""
        if not isinstance(finding, Elsewhere):
            self._say(machine, WAITS + finding.why)
        elif not self._adopt(machine, finding):
            self._say(machine, f"{WAITS}node {finding.node} has it, by a later word, and no room or port for it")

    def _adopt(self, machine: Machine, found: Elsewhere) -> bool:
        parts = self._parts
        try:
            with parts.database.write() as transaction:
                present = machines.find(transaction.connection, machine.id)
                if present is None or present.epoch != machine.epoch:
                    return True
                if not restoring.adopt(transaction, present, found.node, found.epoch, parts.clock.now()):
                    return False
                adopted = machines.find(transaction.connection, machine.id)
        except IntegrityError:
            return False
        if adopted is not None:
            parts.wake(adopted)
        return True

    def _pass(self, stranded: Sequence[Machine]) -> bool:
        """Plan and move; False when somebody else was first, so that it is to be planned anew."""
        now = self._parts.clock.monotonic()
        self._refusals = _with_refused(_lately(self._refusals, now), stranded, now)
        with self._parts.database.read() as connection:
            fleet = _fleet(connection)
        found = plan(stranded, fleet, self._parts.strategy, _barring(self._refusals, stranded))
        reach("failover.planned")
        moved = [move for move in found.moves if self._move(move)]
        for homeless in found.homeless:
            if not self._stay(homeless.machine):
                self._leave(homeless)
        dead = [machine for machine in stranded if machine.moving is not Moving.GONE]
        for name in sorted({str(machine.node) for machine in dead}):
            self._explain(name, moved, found.homeless)
        return len(moved) == len(found.moves)

    def _move(self, move: Move) -> bool:
        """Assign a machine to its new node, if all that the plan rests on is still so."""
        parts = self._parts
        try:
            with parts.database.write() as transaction:
                present = machines.find(transaction.connection, move.machine.id)
                if present is None or not self._may_move(transaction, present, move.machine):
                    return False
                if not nodes.reserve(transaction, move.to, present.amounts):
                    return False
                reach("failover.move.reserved")
                moved = machines.move(transaction, present, move.to, parts.clock.now())
        except Superseded:
            raise
        except (IntegrityError, StaleWrite, Busy) as error:
            log.info("machine was not moved", extra={"machine": move.machine.id, "detail": str(error)})
            return False
        reach("failover.move.recorded")
        parts.hindsight.note(moved)
        parts.wake(moved)
        return True

    def _may_move(self, transaction: Transaction, present: Machine, planned: Machine) -> bool:
        same = (present.epoch, present.created_at) == (planned.epoch, planned.created_at)
        if not same or present.node is None:
            return False
        if present.moving is Moving.GONE:
            return present.wish is not Wish.REMOVED
        if present.wish not in UP and present.moving is Moving.NO:
            return False
        if present.refused:
            return present.state is State.FAILED
        node = nodes.find(transaction.connection, present.node)
        dead = node is not None and node.state is NodeState.UNAVAILABLE
        return dead and is_stranded(present) and not self._is_returning(present.node)

    def _stay(self, machine: Machine) -> bool:
        """Make a machine again on the node that it was to leave, when no other takes it and that one is drained no more."""
        if machine.moving is not Moving.GONE or machine.node is None:
            return False
        with self._parts.database.write() as transaction:
            present = machines.find(transaction.connection, machine.id)
            if present is None or not self._may_move(transaction, present, machine):
                return False
            if not nodes.is_taking(transaction, machine.node):
                return False
            again = machines.move(transaction, present, machine.node, self._parts.clock.now())
        reach("failover.move.recorded")
        self._parts.hindsight.note(again)
        self._parts.wake(again)
        return True

    def _leave(self, homeless: Homeless) -> None:
        """Say of a machine that fits nowhere why; who waits for it is answered. It is planned again later."""
        self._say(homeless.machine, FITS_NOWHERE + homeless.why)

    def _say(self, machine: Machine, why: str) -> None:
        if machine.refused:
            return  # its reason is that of the node that would not have it
        reason = machine.reason.partition(FITS_NOWHERE)[0].partition(WAITS)[0] + why
        try:
            self._parts.records.mirror(machine, machine, Mirror(State.FAILED, reason), events.CONTROLLER)
        except Superseded:
            raise
        except GarbiError as error:
            log.warning("machine was not marked", extra={"machine": machine.id, "detail": error.detail})

    def _explain(self, name: str, moved: Sequence[Move], homeless: Sequence[Homeless]) -> None:
        """One event on the node that was theirs: what went where and why, what stays, what fits nowhere."""
        gone = [f"{each.machine.id} to {each.why}" for each in moved if each.machine.node == name]
        left = [f"{each.machine.id}: {each.why}" for each in homeless if each.machine.node == name]
        words = _sentence(gone, left, self._staying(name))
        if not gone and self._explained.get(name) == words:
            return
        self._explained[name] = _sentence([], left, self._staying(name))
        with self._parts.database.write() as transaction:
            node = nodes.find(transaction.connection, name)
            if node is not None:
                now = self._parts.clock.now()
                events.append(
                    transaction, Subject.NODE, name, events.Kind.FAILOVER, now, state=node.state, reason=words
                )
        reach("failover.explained")

    def _staying(self, name: str) -> list[str]:
        with self._parts.database.read() as connection:
            there = machines.of_node(connection, name)
        return [each.id for each in there if each.on_node_failure is NodeFailurePolicy.STAY]


def _stranded(connection: Connection, dead: Iterable[str], stopped: bool) -> list[Machine]:
    """The machines that have no node; `stopped`: but those that may not move now."""
    found = [
        machine
        for name in dead
        if not stopped or is_by_word(connection, name)
        for machine in machines.of_node(connection, name)
        if is_stranded(machine)
    ]
    found += machines.vacated(connection)  # whose nodes need not be dead, and of which nothing is anywhere
    if not stopped:
        found += [each for each in machines.refused(connection) if _was_refused_after_move(connection, each)]
    return list({machine.id: machine for machine in found}.values())


Refusals = Mapping[tuple[str, str], float]
"""Which node would not have which machine, and since when: by the ids of machines and the names of nodes."""


def _lately(refusals: Refusals, now: float) -> dict[tuple[str, str], float]:
    return {key: at for key, at in refusals.items() if now - at < REFUSED_FOR_S}


def _with_refused(refusals: Refusals, stranded: Iterable[Machine], now: float) -> dict[tuple[str, str], float]:
    """The refusals with those that the machines themselves tell of."""
    told = {(each.id, each.node): now for each in stranded if each.refused and each.node is not None}
    return told | {**refusals}


def _barring(refusals: Refusals, stranded: Iterable[Machine]) -> dict[str, frozenset[str]]:
    """The nodes that would not have each machine."""
    return {each.id: frozenset(node for id_, node in refusals if id_ == each.id) for each in stranded}


def is_by_word(connection: Connection, name: str) -> bool:
    """Whether it was an operator who said that a node is dead."""
    return events.last_actor(connection, Subject.NODE, name, NodeState.UNAVAILABLE) == events.USER


def _was_refused_after_move(connection: Connection, machine: Machine) -> bool:
    """What its user asked for and its node refused is for the user to decide; what was moved is for us."""
    recreate = machine.on_node_failure is NodeFailurePolicy.RECREATE
    return recreate and machine.wish in UP and events.was_moved(connection, machine.id)


def _fleet(connection: Connection, but: str | None = None) -> Fleet:
    """All nodes and what is on them; the one called `but` as if it were dead."""
    taken = candidates.ports_taken(connection)
    found = [
        (_dead(node) if node.name == but else node, running) for node, running in candidates.nodes_with_load(connection)
    ]
    placed = tuple(Placed(*each) for each in candidates.placed(connection))
    shared = share_hosts(node for node, _ in found)
    nodes_: Iterable[Candidate] = (
        Candidate(node, running, taken.get(node.name, {}), shared=shared.get(node.name)) for node, running in found
    )
    return Fleet(tuple(nodes_), placed)


def _dead(node: Node) -> Node:
    return replace(node, state=NodeState.UNAVAILABLE, reason="it would be dead")


def _sentence(gone: Sequence[str], left: Sequence[str], staying: Sequence[str]) -> str:
    parts: Mapping[str, Sequence[str]] = {
        "created again elsewhere": gone,
        "fits nowhere, and is tried again": left,
        "stays on its node by its policy": staying,
    }
    told = [f"{len(names)} {what} ({_shown(names)})" for what, names in parts.items() if names]
    return "; ".join(told) or "no machine was there"


def _shown(names: Sequence[str]) -> str:
    more = f"; and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return "; ".join(names[:MOST_NAMED]) + more
