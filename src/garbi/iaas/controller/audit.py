"""The invariants of DESIGN.md that a controller can check: of its own records, and of what its nodes report."""

from __future__ import annotations

from collections.abc import Iterator

from garbi.base.audit import Violation
from garbi.base.errors import GarbiError
from garbi.hyper_api.vocabulary import State
from garbi.iaas.converge import Sight
from garbi.iaas.loops.looking import read
from garbi.iaas.model.machine import Machine
from garbi.iaas.model.node import Node
from garbi.iaas.monitor.verdict import TRUSTED
from garbi.iaas.nodes import NodeClients, speaking_to
from garbi.iaas.store import audit as records
from garbi.iaas.store import machines, nodes
from garbi.iaas.store.database import Database

PROBE_S = 10.0
EXPECTED = (State.RUNNING, State.PAUSED, State.STOPPED)


class Audit:
    """Compares rows with one another, and with what the nodes say."""

    def __init__(self, controller_id: str, database: Database, clients: NodeClients) -> None:
        self._controller_id = controller_id
        self._database = database
        self._clients = clients

    def run(self) -> list[Violation]:
        """Check every invariant now; a node that does not answer is a finding, not an error."""
        return [*self._of_records(), *self._of_nodes()]

    def _of_records(self) -> Iterator[Violation]:
        with self._database.read() as connection:
            for found in records.findings(connection):
                yield Violation(found.invariant, found.subject, found.detail)

    def _of_nodes(self) -> Iterator[Violation]:
        with self._database.read() as connection:
            known = [node for node in nodes.list(connection) if node.state in TRUSTED]
        running: dict[str, str] = {}
        for node in known:
            try:
                reported = self._report(node)
            except GarbiError as error:
                yield Violation("I5", node.name, f"cannot be checked: {error.detail}", certain=False)
                continue
            with self._database.read() as connection:
                rows = {machine.id: machine for machine in machines.search(connection)}
            yield from _compare(node, reported, rows)
            for machine_id, sight in reported.items():
                if sight.state is State.RUNNING and running.setdefault(machine_id, node.name) != node.name:
                    yield Violation("I1", machine_id, f"runs on {running[machine_id]} and on {node.name}")

    def _report(self, node: Node) -> dict[str, Sight]:
        """The machines of this controller that a node has."""
        with speaking_to(node.name):
            documents = self._clients.prober_of(node, PROBE_S).machines.list()
        seen = {str(each.get("id")): read(each, self._controller_id) for each in documents}
        return {key: sight for key, sight in seen.items() if sight.epoch is not None}


def _compare(node: Node, reported: dict[str, Sight], rows: dict[str, Machine]) -> Iterator[Violation]:
    """Every machine of ours on a node has a row, and every settled row of the node has its machine there."""
    for machine_id, sight in sorted(reported.items()):
        row = rows.get(machine_id)
        if row is None:
            yield Violation("I5", machine_id, f"{sight.state} on {node.name}, but no machine has this id")
        elif row.node == node.name and sight.epoch != row.epoch:
            yield Violation("I11", machine_id, f"on {node.name} from assignment {sight.epoch}, not {row.epoch}")
        elif row.node != node.name:
            yield Violation("I1", machine_id, f"on {node.name}, but it belongs on {row.node}")
    for machine_id, row in sorted(rows.items()):
        found = reported.get(machine_id)
        if row.node != node.name or not row.settled or row.state not in EXPECTED:
            continue
        if found is None:
            yield Violation("I5", machine_id, f"{row.state} here, absent on {node.name}")
        elif found.settled and found.state is not row.state:
            yield Violation("I5", machine_id, f"{row.state} here, {found.state} on {node.name}")
