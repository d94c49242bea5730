"""The invariants of DESIGN.md that a controller can check: of its own records, and of what its nodes report."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from garbi.base.audit import Violation, readable_secrets
from garbi.base.calls import Document
from garbi.base.errors import GarbiError
from garbi.hyper_api.vocabulary import State
from garbi.iaas.converge import Sight
from garbi.iaas.imagestore import ImageStore
from garbi.iaas.loops.looking import read
from garbi.iaas.model.machine import Machine
from garbi.iaas.model.node import Node
from garbi.iaas.model.tombstone import Tombstone
from garbi.iaas.monitor.failover import UP
from garbi.iaas.monitor.verdict import TRUSTED
from garbi.iaas.nodes import NodeClients, speaking_to
from garbi.iaas.store import audit as records
from garbi.iaas.store import machines, meta, nodes, tombstones
from garbi.iaas.store.database import Database

PROBE_S = 10.0
AUDITED = ("I1", "I2", "I3", "I4", "I5", "I7", "I10", "I11", "I14")
"""The invariants that a controller can check; each host checks its own."""

RUNS = (State.STARTING, State.RUNNING, State.PAUSED, State.STOPPING)
EXPECTED = (State.RUNNING, State.PAUSED, State.STOPPED)


@dataclass(frozen=True, slots=True)
class Audit:
    """Compares rows with one another, with the contents of images, and with what the nodes say.

    `leads` tells whether this controller does: only then it knows the present term, and has the contents.
    """

    controller_id: str
    database: Database
    clients: NodeClients
    store: ImageStore
    data_dir: Path
    leads: Callable[[], bool]

    def run(self) -> list[Violation]:
        """Check every invariant now; a node that does not answer is a finding, not an error."""
        return [
            *self._of_records(),
            *(self._of_images() if self.leads() else ()),
            *self._of_nodes(),
            *readable_secrets(self.data_dir),
        ]

    def _of_records(self) -> Iterator[Violation]:
        with self.database.read() as connection:
            for found in records.findings(connection):
                yield Violation(found.invariant, found.subject, found.detail)
            for each in tombstones.list(connection):
                if each.may_run:
                    yield Violation("I5", f"node {each.name}", _of_tombstone(each), certain=False)

    def _of_images(self) -> Iterator[Violation]:
        """I5: every content belongs to a row. I10: what an image names is there, whole."""
        for sha256 in self.store.strays():
            yield Violation("I5", f"image {sha256[:16]}", f"content {sha256} is here, but nothing needs it")
        for image in self.store.missing():
            yield Violation("I10", f"image {image.name}", f"its content {image.sha256} is gone or has another size")

    def _of_nodes(self) -> Iterator[Violation]:
        with self.database.read() as connection:
            known = [node for node in nodes.list(connection) if node.state in TRUSTED]
        running: dict[str, str] = {}
        for node in known:
            try:
                reported, leases = self._report(node)
            except GarbiError as error:
                yield Violation("I5", node.name, f"cannot be checked: {error.detail}", certain=False)
                continue
            with self.database.read() as connection:
                rows = {machine.id: machine for machine in machines.search(connection)}
                term = int(meta.get(connection, meta.TERM) or 0)
            yield from _compare(node, reported, rows)
            yield from _of_lease(node, leases, term)
            for machine_id, sight in reported.items():
                if sight.state is State.RUNNING and running.setdefault(machine_id, node.name) != node.name:
                    yield Violation("I1", machine_id, f"runs on {running[machine_id]} and on {node.name}")

    def _report(self, node: Node) -> tuple[dict[str, Sight], list[Document]]:
        """The machines of this controller that a node has, and the lease under which they run."""
        with speaking_to(node.name):
            client = self.clients.prober_of(node, PROBE_S)
            documents, leases = client.machines.list(), client.leases.list()
        seen = {str(each.get("id")): read(each, self.controller_id) for each in documents}
        ours = [each for each in leases if each.get("controller") == self.controller_id]
        return {key: sight for key, sight in seen.items() if sight.epoch is not None}, ours


def _compare(node: Node, reported: dict[str, Sight], rows: dict[str, Machine]) -> Iterator[Violation]:
    """Every machine of ours on a node has a row, and every settled row of the node has its machine there."""
    for machine_id, sight in sorted(reported.items()):
        row = rows.get(machine_id)
        if row is None:
            yield Violation("I5", machine_id, f"{sight.state} on {node.name}, but no machine has this id")
        elif row.node == node.name and sight.epoch != row.epoch:
            yield Violation("I11", machine_id, f"on {node.name} from assignment {sight.epoch}, not {row.epoch}")
        elif row.node != node.name:
            invariant = "I1" if sight.state in RUNS else "I5"
            yield Violation(invariant, machine_id, f"{sight.state} on {node.name}, but it belongs on {row.node}")
    for machine_id, row in sorted(rows.items()):
        found = reported.get(machine_id)
        if row.node == node.name and found is None and _is_owed(row):
            yield Violation(
                "I4", machine_id, f"it is to be {row.wish}, and node {node.name} does not have it: {row.reason}"
            )
        if row.node != node.name or not row.settled or row.state not in EXPECTED:
            continue
        if found is None:
            yield Violation("I5", machine_id, f"{row.state} here, absent on {node.name}")
        elif found.settled and found.state is not row.state:
            yield Violation("I5", machine_id, f"{row.state} here, {found.state} on {node.name}")


def _of_tombstone(each: Tombstone) -> str:
    said = f", which said last: {each.said}" if each.said else ""
    return (
        f"it was removed by force while it was silent: {', '.join(each.may_run)} may run on at {each.address}, until "
        f"that is told to remove them{said}; it is asked until {each.until:%Y-%m-%d}"
    )


def _is_owed(row: Machine) -> bool:
    """Whether a machine is to run by what its node was told, and nothing is under way to that end."""
    return row.wish in UP and row.told_generation > 0 and row.settled and row.state not in EXPECTED


def _of_lease(node: Node, leases: list[Document], term: int) -> Iterator[Violation]:
    """I11: no node obeys a lease or a leader that this cloud has not had yet."""
    for lease in leases:
        for name, own in (("number", node.lease), ("term", term)):
            value = lease.get(name)
            if isinstance(value, int) and value > own:
                words = f"it obeys {name} {value} of the lease, and the newest that is known here is {own}"
                yield Violation("I11", f"node {node.name}", words)
