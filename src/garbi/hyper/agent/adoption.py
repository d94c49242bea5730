"""Makes the database of an agent anew from the files of its machines, from what its engines run, and from the leases on the host.

What runs goes on, in the same processes; what does not run stays off: a file does not know what became of a machine, and one
that a controller ordered may run elsewhere by now, so that it is started once the controller says so, under a lease. What was
removed since a database was copied is not made again. What engines have of this agent that no file tells of is left alone: the
audit names it, and its removal by id removes it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from sqlalchemy import delete, insert, select, text

from garbi.base.clock import Clock
from garbi.base.errors import FinalError, GarbiError
from garbi.hyper.converge import HELD
from garbi.hyper.drivers.protocol import Condition, Observation
from garbi.hyper.drivers.registry import DriverRegistry
from garbi.hyper.leases.files import LeaseFiles
from garbi.hyper.model.event import EventKind
from garbi.hyper.model.image import Image
from garbi.hyper.model.machine import Machine, NodeFailurePolicy, State, Wish
from garbi.hyper.model.query import MachineQuery
from garbi.hyper.store import events, leases, machines, meta
from garbi.hyper.store.database import Database, Transaction
from garbi.hyper.store.image_files import ImageFiles, to_values
from garbi.hyper.store.machine_files import MachineRecord
from garbi.hyper.store.schema import images
from garbi.hyper.store.schema import machines as table
from garbi.hyper.store.traces import DRIVERS, Loss
from garbi.hyper_api.assignment import CONTROLLER_LABEL

log = logging.getLogger(__name__)

LEAP = 1_000_000
"""More than the events that may be missing: whoever followed them goes on after the last that it heard."""

WHOSE = "it was adopted from its file, and does not run here"
ON = {Condition.RUNNING: State.RUNNING, Condition.PAUSED: State.PAUSED}

Seen = Mapping[str, Mapping[str, Observation]]
"""What each driver sees of its machines, by type and id."""


@dataclass(frozen=True, slots=True)
class Adoption:
    """What is made anew, and from what; `boot_id` is the present boot of the host."""

    data_dir: Path
    lease_files: LeaseFiles
    database: Database
    drivers: DriverRegistry
    image_files: ImageFiles
    clock: Clock
    boot_id: str

    def run(self, loss: Loss) -> str:
        """Write what was lost; return what was done, in words.

        Raises FinalError while an engine that has machines of this agent does not answer.
        """
        with self.database.read() as connection:
            rows = {row.id: row for row in machines.search(connection, MachineQuery())}
        newer = [record for record in loss.records if _is_newer(record, rows)]
        lost = [row for row in rows.values() if row.id not in {record.machine.id for record in loss.records}]
        seen = self._look({record.machine.type for record in newer} | {row.type for row in lost})
        gone = [row for row in lost if row.id not in seen.get(row.type, {})]
        with self.database.write() as transaction:
            if loss.cluster_id is not None:  # with all the rest, or not at all: it says that the database is whole
                meta.put(transaction, meta.CLUSTER_ID, loss.cluster_id)
            _leap(transaction, loss.newest)
            self._restore_leases(transaction)
            self._restore_images(transaction, newer)
            for record in newer:
                self._restore(transaction, record, rows.get(record.machine.id), seen)
            for row in gone:
                reason = "it was removed after this database was copied"
                machines.delete_machine(transaction, replace(row, reason=reason), self.clock.now())
        owned = {record.machine.id for record in loss.records} | rows.keys()
        orphans = sorted(f"{name} {key}" for name, found in seen.items() for key in found.keys() - owned)
        return _told(newer, gone, [*orphans, *(f"(unreadable) {path}" for path in loss.broken)])

    def _look(self, needed: Iterable[str]) -> Seen:
        """What the engines run of this agent; each that a file names has to answer, the others are asked if they do."""
        seen: dict[str, dict[str, Observation]] = {}
        for name in sorted({*needed, *self.drivers.names()}):
            try:
                if name not in needed and not self.drivers.info(name).available:
                    continue
                seen[name] = {each.machine_id: each for each in self.drivers.get(name).observe()}
            except GarbiError as error:
                if name in needed:
                    words = f"nothing was adopted: {name}, which has machines of this agent, does not answer"
                    raise FinalError(f"{words} ({error.detail}); start it first") from error
        for name in sorted({name for name, found in seen.items() if found} | {*needed} | self._kept_by()):
            meta.note_driver(self.database, name)
        return seen

    def _kept_by(self) -> set[str]:
        """The drivers that keep something in the data directory."""
        return {name for name in self.drivers.names() if (self.data_dir / DRIVERS / name).exists()}

    def _restore_leases(self, transaction: Transaction) -> None:
        files = self.lease_files
        files.take_up()
        for controller in files.controllers():
            lease, fenced = files.read(controller), files.fenced(controller)
            row = leases.find(transaction.connection, controller)
            if lease is not None and (row is None or (row.term, row.number) < (lease.term, lease.number)):
                row = leases.LeaseRow(controller, lease.holder, lease.term, lease.number, fenced)
                leases.save(transaction, row, self.clock.now())
            leases.fence(transaction, controller, fenced, self.clock.now())

    def _restore_images(self, transaction: Transaction, records: Iterable[MachineRecord]) -> None:
        """Names whose content is here; the content of a machine's image is needed whatever its name points to now."""
        known = set(transaction.connection.execute(select(images.c.name)).scalars())
        named = [record.image for record in records if record.image is not None]
        found: dict[str, Image] = {image.name: image for image in (*named, *self.image_files.read())}
        for image in found.values():
            if image.name not in known and self.image_files.has_content(image):
                transaction.connection.execute(insert(images).values(**to_values(image)))

    def _restore(self, transaction: Transaction, record: MachineRecord, row: Machine | None, seen: Seen) -> None:
        machine, now = record.machine, self.clock.now()
        found = seen[machine.type].get(machine.id)
        if row is not None:
            transaction.connection.execute(delete(table).where(table.c.id == row.id))
        if (
            found is None
            and CONTROLLER_LABEL in machine.labels
            and machine.on_node_failure is NodeFailurePolicy.RECREATE
        ):
            # Its controller is to find that nothing of it is here, and may make it again wherever it likes.
            gone = replace(machine, state=State.FAILED, reason=f"nothing of it is at {machine.type}: {WHOSE}")
            events.append(transaction, EventKind.REMOVED, gone, now)
            return
        present = self._as_seen(machine, found)
        machines.put_machine(transaction, present)
        events.append(transaction, EventKind.CREATED, present, now)

    def _as_seen(self, machine: Machine, seen: Observation | None) -> Machine:
        """The machine as it is found, with nothing left to be done by itself, but its removal."""
        condition = None if seen is None else seen.condition
        settled = 0 if machine.wish is Wish.REMOVED else machine.generation
        found = replace(machine, settled_generation=settled, updated_at=self.clock.now())
        if condition in ON:
            address = machine.address or (seen.address if seen is not None else None)
            return replace(found, state=ON[condition], address=address, boot_id=self.boot_id, reason="")
        if condition is Condition.STOPPED:
            return replace(found, state=State.STOPPED, reason=_why_off(machine))
        return replace(found, state=State.FAILED, reason=f"nothing of it is at {machine.type}: {WHOSE}")


def _is_newer(record: MachineRecord, rows: Mapping[str, Machine]) -> bool:
    row = rows.get(record.machine.id)
    return row is None or record.machine.generation > row.generation


def _why_off(machine: Machine) -> str:
    """A machine of a controller that is to run is held until that says so again, as one whose lease has ended."""
    controller = machine.labels.get(CONTROLLER_LABEL)
    if controller is None or machine.wish is Wish.STOPPED:
        return WHOSE
    return f"{HELD}{WHOSE}: it waits for the word of controller {controller[:8]}"


def _leap(transaction: Transaction, newest: int) -> None:
    """Let events count on from where nobody has heard of any."""
    connection = transaction.connection
    last = max(newest, events.last_seq(connection)) + LEAP
    changed = connection.execute(text("UPDATE sqlite_sequence SET seq = :seq WHERE name = 'events'"), {"seq": last})
    if changed.rowcount == 0:
        connection.execute(text("INSERT INTO sqlite_sequence (name, seq) VALUES ('events', :seq)"), {"seq": last})


def _told(newer: list[MachineRecord], gone: list[Machine], orphans: list[str]) -> str:
    said = [f"adopted {len(newer)} machine{'' if len(newer) == 1 else 's'} from their files"]
    if gone:
        said.append(f"forgot {len(gone)} that were removed since the database was copied")
    if orphans:
        said.append(f"left alone, and named by the audit, what no file tells of: {', '.join(orphans)}")
    return "; ".join(said)
