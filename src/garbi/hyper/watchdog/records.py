"""What a data directory says of its agent and machines, whether the agent lives or not: its database, and the files beside it.

Of row and file the newer one counts. Where the database is lost, or cannot be read, the files say it all; where they are lost
too, nothing does. Where the disk does not answer, what the agent wrote once more in memory counts.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from garbi.base.errors import DatabaseUnavailable, GarbiError, StorageFailed
from garbi.base.hanging import PatientDisk
from garbi.hyper.model.machine import Machine
from garbi.hyper.store import leased_rows, machine_files, meta
from garbi.hyper.store.database import Database
from garbi.hyper.store.machine_files import MachineRecord
from garbi.hyper.store.traces import DATABASE
from garbi.storage.identity import read_identity

log = logging.getLogger(__name__)

READ_S = 1.0
"""How long the disk has to say something. The margin of a lease has room for it."""


@dataclass(frozen=True, slots=True)
class Known:
    """A machine that is written down, as far as the end of its lease needs it, and the cluster id of its agent."""

    cluster_id: str
    machine: Machine


@dataclass(frozen=True, slots=True)
class Records:
    """Who the agent is, empty when nothing says it, and the machines that are written down, of earlier agents too."""

    cluster_id: str = ""
    machines: tuple[Known, ...] = ()


class RecordReader:
    """Reads what is written down of one data directory; `runtime` is where its agent wrote it once more, for this boot."""

    def __init__(self, data_dir: Path, runtime: Path, disk: PatientDisk) -> None:
        self._data_dir = data_dir
        self._runtime = runtime
        self._disk = disk
        self._said = ""

    def read(self) -> Records:
        """What is written down. Waits for the disk, but not for one that hangs, and never raises."""
        try:
            found = self._disk.within(READ_S, self._read_disk)
            self._said = ""
            return found
        except StorageFailed as error:
            if self._said != error.detail:
                log.warning("the disk says nothing: memory and marks count", extra={"detail": error.detail})
            self._said = error.detail
            files, _ = machine_files.read_records(self._runtime)
            cluster_id = read_identity(self._runtime) or _named(files)
            return Records(cluster_id, tuple(_merged(cluster_id, (), files)))

    def has_worked(self) -> bool:
        """Whether anything says that an agent has worked in the data directory."""
        try:
            if self._disk.within(READ_S, (self._data_dir / DATABASE).exists):
                return True
        except (StorageFailed, OSError):
            log.info("whether there is a database cannot be seen")
        found = self.read()
        return bool(found.cluster_id or found.machines)

    def _read_disk(self) -> Records:
        """The files are read first: they never tell of what the database did not know."""
        files, _ = machine_files.read_records(self._data_dir)
        cluster_id = ""
        rows: tuple[Machine, ...] = ()
        try:
            cluster_id, rows = _read(self._data_dir / DATABASE)
        except DatabaseUnavailable as error:
            log.warning("the database says nothing: files and marks count", extra={"detail": error.detail})
            files = [*files, *machine_files.read_records(self._runtime)[0]]
        cluster_id = cluster_id or read_identity(self._data_dir) or _named(files)
        return Records(cluster_id, tuple(_merged(cluster_id, rows, files)))


def _merged(cluster_id: str, rows: Iterable[Machine], files: Iterable[MachineRecord]) -> Iterable[Known]:
    known = {(cluster_id, row.id): row for row in rows}
    for record in files:
        key = (record.cluster_id, record.machine.id)
        if key not in known or record.machine.generation > known[key].generation:
            known[key] = record.machine
    return (Known(of, machine) for (of, _), machine in known.items())


def _named(files: Iterable[MachineRecord]) -> str:
    """The agent that all files name; they are all of one, unless somebody has mixed them."""
    found = {record.cluster_id for record in files}
    return found.pop() if len(found) == 1 else ""


def _read(path: Path) -> tuple[str, tuple[Machine, ...]]:
    if not path.exists():
        return "", ()
    try:
        with contextlib.closing(Database(path)) as database, database.read() as connection:
            cluster_id = meta.get(connection, meta.CLUSTER_ID) or ""
            return cluster_id, tuple(leased_rows.search(connection))
    except (SQLAlchemyError, GarbiError, ValueError, KeyError, TypeError) as error:
        raise DatabaseUnavailable(f"the machines cannot be read from {path}: {error}") from error
