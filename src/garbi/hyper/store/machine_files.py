"""Each accepted machine once more, as a file of the data directory: what its row is made from when the database is lost.

A file is written before the change that it tells of is committed, and gets its name after that and before anybody is answered;
it is deleted before the removal is committed. So a file never tells of what the database did not know: one that does shows that
the database is older, or another. It has what was asked for, not what became of it: no file is written when a machine only
changes its state. The files lie once more in memory, for as long as the host runs: the watchdog reads them there while the
disk hangs.
"""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import select

from garbi.base.clock import from_wire, to_wire
from garbi.base.disks import kind_of
from garbi.base.errors import FinalError, GarbiError
from garbi.base.failpoints import reach
from garbi.base.places import make_private
from garbi.hyper.model.event import Event, EventKind
from garbi.hyper.model.image import Image
from garbi.hyper.model.machine import (
    Machine,
    NodeFailurePolicy,
    Protocol,
    PublishedPort,
    RestartPolicy,
    State,
    Wish,
)
from garbi.hyper.model.query import MachineQuery
from garbi.hyper.store import events, image_files, machines
from garbi.hyper.store.database import Database, Transaction
from garbi.hyper.store.schema import images
from garbi.storage.identity import keep_identity
from garbi.storage.whole_files import BESIDE, put_in_place, replace_file, sync_directory, write_beside

log = logging.getLogger(__name__)

DIRECTORY = "machines"
SUFFIX = ".json"
NEWEST = "newest"
"""The file that has the number of the newest event that ended a machine; not durable, it only grows."""

REMEMBERED = 1000
"""Of how many machines it is known which change is in place; a writer is late by less than so many others."""

RECORDED = (EventKind.CREATED, EventKind.WISH)
PLAIN = (
    "id", "name", "type", "image", "image_sha256", "mem", "cpus", "node", "labels", "full_copy", "wish", "address", "mac",
    "restart", "on_node_failure", "generation", "lease", "ordered", "keep_s",
)  # fmt: skip
"""The fields of a machine that its file has as they are; its address only where it is reserved."""


@dataclass(frozen=True, slots=True)
class MachineRecord:
    """What a file says: the machine, whose agent wrote it, the number of the newest event then, and the machine's image."""

    machine: Machine
    cluster_id: str
    seq: int
    image: Image | None = None


class MachineFiles:
    """The files in one data directory. A herald of the database: it is told of each write, in the transaction."""

    def __init__(self, data_dir: Path, runtime: Path, cluster_id: str, *, durable: bool = True) -> None:
        self._directory = data_dir / DIRECTORY
        self._runtime = runtime
        self._memory = runtime / DIRECTORY
        self._cluster_id = cluster_id
        self._durable = durable
        self._lock = threading.Lock()
        self._newest = threading.Lock()
        self._placed: dict[str, int] = {}
        self._directory.mkdir(mode=0o700, exist_ok=True)

    def announce(self, transaction: Transaction) -> None:
        """Write what has changed of what was asked for; raises NoSpace or FinalError: then nothing of it was accepted."""
        changed = {event.machine_id for event in transaction.events if event.kind in RECORDED} | {*transaction.noted}
        removed = [event for event in transaction.events if event.kind is EventKind.REMOVED]
        for event in removed:
            self._delete(event.machine_id, event.seq, min(each.seq for each in transaction.events) - 1)
        if removed:
            transaction.finishing.append(partial(self._note_newest, removed[-1].seq))
        for machine_id in sorted(changed - {event.machine_id for event in removed}):
            machine = machines.find(transaction.connection, machine_id)
            if machine is not None:
                self._write(transaction, machine)

    def abandon(self, events: list[Event]) -> None:
        """Nothing: what was written beside is overwritten by the next change, or ignored."""

    def repair(self, database: Database, records: Iterable[MachineRecord]) -> None:
        """Bring the files in line with a database that is as new as they: a crash, or a version without files, came between."""
        for path in self._directory.glob(f"*{BESIDE}"):
            path.unlink(missing_ok=True)
        found = {record.machine.id: record for record in records}
        with database.read() as connection:
            rows = {row.id: row for row in machines.search(connection, MachineQuery())}
            stale = {
                row.id for row in rows.values() if row.id not in found or _asked(found[row.id].machine) != _asked(row)
            }
        for machine_id in sorted(found.keys() - rows.keys()):
            self._path(machine_id).unlink(missing_ok=True)
        for machine_id in sorted(stale):
            with database.write() as transaction:
                transaction.noted.append(machine_id)
        self._repeat()

    def _repeat(self) -> None:
        """Write all once more in memory, whoever's lay there before."""
        shutil.rmtree(self._memory, ignore_errors=True)
        try:
            make_private(self._runtime)
            self._memory.mkdir(mode=0o700)
        except OSError as error:
            raise kind_of(error, FinalError)(f"{self._memory} cannot be made: {error.strerror}") from error
        keep_identity(self._runtime, self._cluster_id)
        for path in self._directory.glob(f"*{SUFFIX}"):
            with contextlib.suppress(FileNotFoundError):  # it was removed meanwhile
                self._remember(path.stem, path.read_bytes())

    def _remember(self, machine_id: str, content: bytes) -> None:
        """Write one once more in memory. Where that is full, the watchdog has the disk, and the marks at the engines."""
        try:
            replace_file(self._memory / f"{machine_id}{SUFFIX}", content, durable=False)
        except GarbiError as error:
            words = {"machine": machine_id, "detail": error.detail}
            log.warning("what a machine is cannot be read while the disk hangs", extra=words)

    def _delete(self, machine_id: str, seq: int, committed: int) -> None:
        """The number of what is `committed` goes first: who finds no file has to find that. Not yet that of the removal, which a
        crash would leave as the number of what never was."""
        self._note_newest(committed)
        reach("machine.file.deleting")
        with self._lock:
            self._note_placed(machine_id, seq)
            self._path(machine_id).unlink(missing_ok=True)
            (self._memory / f"{machine_id}{SUFFIX}").unlink(missing_ok=True)

    def _note_newest(self, seq: int) -> None:
        path = self._directory / NEWEST
        with self._newest:
            try:
                if seq > _number_in(path):
                    replace_file(path, b"%d\n" % seq, durable=False)
            except GarbiError as error:  # a removal goes on, also on a disk that is full
                log.warning("the number of the newest event is not noted", extra={"detail": error.detail})

    def _write(self, transaction: Transaction, machine: Machine) -> None:
        connection, path = transaction.connection, self._path(machine.id)
        row = connection.execute(select(images).where(images.c.name == machine.image)).first()
        image = None if row is None or row.sha256 != machine.image_sha256 else image_files.read_row(row)
        record = MachineRecord(machine, self._cluster_id, events.last_seq(connection), image)
        word, content = f".{record.seq}-{threading.get_ident()}", encode(record)
        try:
            beside = write_beside(path, content, durable=self._durable, word=word)
        except GarbiError:
            if machine.wish is not Wish.REMOVED:
                raise
            log.warning("the file of a machine that is being removed is not written", extra={"machine": machine.id})
            return
        reach("machine.file.written")
        transaction.finishing.append(partial(self._finish, machine.id, beside, record.seq, content))

    def _finish(self, machine_id: str, beside: Path, seq: int, content: bytes) -> None:
        """Put a file in its place, unless a later one is there, or the machine was removed meanwhile."""
        try:
            with self._lock:
                if seq < self._placed.get(machine_id, 0):
                    beside.unlink(missing_ok=True)
                    return
                self._note_placed(machine_id, seq)
                self._remember(machine_id, content)
                put_in_place(beside, self._path(machine_id), durable=False)
            if self._durable:
                sync_directory(self._directory)  # many writers may wait for this at once
        except (GarbiError, OSError) as error:  # the change is accepted; the next start writes the file
            log.error("the file of a machine is not in its place", extra={"machine": machine_id, "detail": str(error)})

    def _note_placed(self, machine_id: str, seq: int) -> None:
        """Two writers may finish in another order than they committed, within moments of one another."""
        self._placed.pop(machine_id, None)
        self._placed[machine_id] = seq
        if len(self._placed) > REMEMBERED:
            del self._placed[next(iter(self._placed))]

    def _path(self, machine_id: str) -> Path:
        return self._directory / f"{machine_id}{SUFFIX}"


def read_records(data_dir: Path) -> tuple[list[MachineRecord], list[Path]]:
    """What the files of a data directory say, and those that cannot be read."""
    records, broken = [], []
    for path in sorted((data_dir / DIRECTORY).glob(f"*{SUFFIX}")):
        try:
            records.append(decode(json.loads(path.read_bytes())))
        except FileNotFoundError:  # it was removed meanwhile
            continue
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            broken.append(path)
    return records, broken


def newest_seq(data_dir: Path, records: Iterable[MachineRecord]) -> int:
    """The number of the newest event that files know of."""
    return max([_number_in(data_dir / DIRECTORY / NEWEST), *(record.seq for record in records)])


def encode(record: MachineRecord) -> bytes:
    """A record as its file has it."""
    image = None if record.image is None else image_files.to_values(record.image)
    values = _values(record.machine)
    document = {"cluster_id": record.cluster_id, "seq": record.seq, "machine": values, "image": image}
    return json.dumps(document, indent=1).encode() + b"\n"


def decode(document: Mapping[str, Any]) -> MachineRecord:
    """The record in a file; raises KeyError, TypeError or ValueError when there is none. Fields of later versions are ignored."""
    values = document["machine"]
    machine = Machine(
        **{name: values[name] for name in PLAIN if name in values}
        | {
            "ports": tuple(PublishedPort(int(port[0]), int(port[1]), Protocol(port[2])) for port in values["ports"]),
            "labels": dict(values["labels"]),
            "wish": Wish(values["wish"]),
            "restart": RestartPolicy(values["restart"]),
            "on_node_failure": NodeFailurePolicy(values["on_node_failure"]),
            "created_at": from_wire(values["created_at"]),
            "updated_at": from_wire(values["updated_at"]),
            "state": State.UNKNOWN,
            "reason": "",
            "settled_generation": 0,
            "boot_id": "",
        }
    )
    image = None if document.get("image") is None else image_files.of_values(document["image"])
    return MachineRecord(machine, str(document["cluster_id"]), int(document["seq"]), image)


def _values(machine: Machine) -> dict[str, Any]:
    """What a file has of a machine."""
    values: dict[str, Any] = {name: getattr(machine, name) for name in PLAIN}
    values["labels"] = dict(machine.labels)
    values["address"] = machine.address if machine.mac else None
    values["ports"] = [[port.node_port, port.machine_port, port.protocol] for port in machine.ports]
    return values | {"created_at": to_wire(machine.created_at), "updated_at": to_wire(machine.updated_at)}


def _asked(machine: Machine) -> dict[str, Any]:
    """What was asked for of a machine, as far as a file has it: what changes with it, or with any order, is left out."""
    return {name: value for name, value in _values(machine).items() if name not in ("updated_at", "ordered")}


def _number_in(path: Path) -> int:
    try:
        return int(path.read_bytes())
    except (OSError, ValueError):
        return 0
