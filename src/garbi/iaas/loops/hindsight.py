"""Makes sure that a machine which waits for another node is on none already, by a word that the database has lost.

A database that was put back from a backup, or a replica that was behind, lacks its last commits, and one of those may have made
the machine elsewhere. What this term of leadership wrote itself is known; of the rest every node is asked, or proven dead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from garbi.base.errors import DriverUnavailable, GarbiError, NotFound, ServerUnreachable, UnknownType
from garbi.iaas.converge import Sight
from garbi.iaas.leadership import Superseded
from garbi.iaas.loops.looking import check_identity, look_at
from garbi.iaas.model.machine import Machine, Moving
from garbi.iaas.model.node import Node, NodeState
from garbi.iaas.monitor.verdict import TRUSTED
from garbi.iaas.nodes import NodeClients, speaking_to
from garbi.iaas.store import nodes
from garbi.iaas.store.database import Database

PROBE_S = 10.0
"""How long the answer of a node may take."""


@dataclass(frozen=True, slots=True)
class Unsure:
    """Whether a machine is on a node already is not known, and why that is so."""

    why: str


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A machine is on that node, in an assignment that the database knows nothing of."""

    node: str
    epoch: int


Finding = Unsure | Elsewhere


class Hindsight:
    """What one term of leadership knows of machines that it did not assign itself. One thread at a time calls `look`.

    `lossy`: the last commits of the database may be lost, so that also what it says of dead nodes' machines may be too old; else
    only who has left a node is asked for. `has_answered` tells whether a node was heard of in this term.
    """

    def __init__(
        self,
        database: Database,
        clients: NodeClients,
        controller_id: str,
        has_answered: Callable[[str], bool],
        *,
        lossy: bool,
    ) -> None:
        self._database = database
        self._clients = clients
        self._controller_id = controller_id
        self._has_answered = has_answered
        self._lossy = lossy
        self._known: set[tuple[str, int]] = set()

    def note(self, machine: Machine) -> None:
        """Where that machine is in its present assignment, or that it is nowhere, was written in this term."""
        self._known.add((machine.id, machine.epoch))

    def look(self, stranded: Sequence[Machine]) -> dict[str, Finding]:
        """By their ids, those of these machines that may not be made elsewhere now; raises Superseded.

        A node that does not answer is not asked for the other machines: they wait for it as well.
        """
        asked = [machine for machine in stranded if self._is_doubtful(machine)]
        if not asked:
            return {}
        with self._database.read() as connection:
            known = [node for node in nodes.list(connection) if node.cluster_id]
        found: dict[str, Finding] = {}
        for node in known:
            if node.state is NodeState.UNAVAILABLE and not self._has_answered(node.name):
                continue  # proven dead
            self._ask(node, asked, found)
        for machine in asked:
            if machine.id not in found:
                self.note(machine)
        return found

    def _is_doubtful(self, machine: Machine) -> bool:
        concerned = self._lossy or machine.moving is Moving.GONE
        return concerned and (machine.id, machine.epoch) not in self._known

    def _ask(self, node: Node, asked: Sequence[Machine], found: dict[str, Finding]) -> None:
        """Ask one node for all of them, and write down what keeps each from being made elsewhere."""
        silent = "" if node.state in TRUSTED or self._has_answered(node.name) else _cannot_be_asked(node)
        for machine in asked:
            seen: Finding | None = Unsure(silent) if silent else None
            try:
                seen = seen or self._find(machine, node)
            except Superseded:
                raise
            except GarbiError as error:
                seen = Unsure(f"it cannot be asked whether it is there already: {error.detail}")
                silent = seen.why if isinstance(error, ServerUnreachable) else ""
            if seen is not None:
                found[machine.id] = _more_certain(found.get(machine.id), seen)

    def _find(self, machine: Machine, node: Node) -> Finding | None:
        """What a node has of a machine beside what is known; None when that is nothing."""
        client = self._clients.prober_of(node, PROBE_S)
        with speaking_to(node.name):
            check_identity(node, client)
            seen = look_at(machine.id, client, self._controller_id)
            if isinstance(seen, Sight):
                return _of_row(machine, node, seen)
            try:
                assignment = self._clients.assignment(node, machine.epoch)
                traces = client.machines.traces(machine.id, machine.type, assignment)
            except NotFound:
                return Unsure(f"the agent of node {node.name} is too old to say what its engine has")
            except (DriverUnavailable, UnknownType):
                if any(driver.name == machine.type and driver.available for driver in node.drivers):
                    raise
                return None  # there is no such engine
        if traces.get("recorded") is not False:
            return Unsure(f"node {node.name} has just got it")
        if traces.get("at_engine") is not False:
            return Unsure(f"the agent of node {node.name} has no record of it, but its engine ({machine.type}) has it")
        return None


def _cannot_be_asked(node: Node) -> str:
    return f"node {node.name}, which is {node.state}, cannot be asked whether it is there already"


def _of_row(machine: Machine, node: Node, seen: Sight) -> Finding | None:
    if seen.epoch is None or seen.epoch < machine.epoch:
        return None  # somebody else's, or what an earlier assignment left
    if seen.epoch > machine.epoch:
        return Elsewhere(node.name, seen.epoch)
    if node.name == machine.node:
        return None
    return Unsure(f"node {node.name} has it, in the assignment that is known here")


def _more_certain(one: Finding | None, other: Finding) -> Finding:
    """The latest assignment that was found; what is not known counts where none was."""
    if not isinstance(one, Elsewhere):
        return other if isinstance(other, Elsewhere) or one is None else one
    return other if isinstance(other, Elsewhere) and other.epoch > one.epoch else one
