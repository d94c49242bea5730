"""Whether a data directory has the traces of an agent whose database is lost, emptied, older than they are, or another's.

Then a start is not a first one: an agent that began anew would own nothing of what runs here. Nothing is written by the look, and
any version's database can be looked at.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from garbi.hyper.store.machine_files import DIRECTORY, MachineRecord, newest_seq, read_records
from garbi.storage.conversion import is_damage, is_of_statement, unreachable
from garbi.storage.engine import BUSY_TIMEOUT_S
from garbi.storage.identity import IDENTITY, read_identity

DATABASE = "hyper.db"
JOURNALS = ("", "-wal", "-shm")
LEASES, DRIVERS = "leases", "drivers"


class LossKind(StrEnum):
    """What is the matter with the database of a data directory in which an agent has worked."""

    MISSING = "missing"
    EMPTY = "empty"
    OLDER = "older"
    FOREIGN = "foreign"


WORDS = {
    LossKind.MISSING: "its database {path} is missing",
    LossKind.EMPTY: "its database {path} is empty",
    LossKind.OLDER: "its database {path} is older than they are",
    LossKind.FOREIGN: "its database {path} is that of another agent",
}


@dataclass(frozen=True, slots=True)
class Loss:
    """What was lost: the files that are left, and the cluster id that they name (None: none does)."""

    kind: LossKind
    path: Path
    traces: tuple[str, ...]
    records: tuple[MachineRecord, ...]
    broken: tuple[Path, ...]
    cluster_id: str | None
    newest: int

    @property
    def words(self) -> str:
        """What is the matter, in half a sentence."""
        found = ", ".join(self.traces)
        return f"{self.path.parent} has the traces of an agent ({found}), but {WORDS[self.kind].format(path=self.path)}"

    @property
    def way_on(self) -> str:
        """What an operator can do."""
        return (
            "`hyper serve --adopt` makes it anew from the files of the machines and what their engines run, or put back the "
            f"newest file of {self.path.parent / 'copies'}; who wants a new agent gives it an empty directory"
        )


@dataclass(frozen=True, slots=True)
class _Known:
    """What a database says: who it is of, its newest event, the machines it has, and when those that it had were removed."""

    cluster_id: str | None = None
    seq: int = 0
    generations: dict[str, int] = field(default_factory=dict)
    removals: dict[str, int] = field(default_factory=dict)


DAMAGED = _Known()
"""What a database says that cannot be read."""


def find_loss(data_dir: Path, *, unreadable: bool = False) -> Loss | None:
    """What a data directory has lost; None when it is a new one, or has all. The files are read before the database.

    A damaged database is another matter, and no loss, unless it is taken for `unreadable`: as if there were none. Raises Busy,
    NoSpace or StorageFailed for one that cannot be read now: what is in it is not known.
    """
    identity = read_identity(data_dir)
    records, broken = read_records(data_dir)
    newest = newest_seq(data_dir, records)
    traces = tuple(_traces(data_dir, identity, len(records) + len(broken)))
    if not traces:
        return None
    path = data_dir / DATABASE
    known = _read(path) if path.exists() and path.stat().st_size and not unreadable else None
    kind = None if known is DAMAGED else _kind(path, known, records, newest, identity)
    if kind is None:
        return None
    named = identity or next((record.cluster_id for record in records), None)
    if named is None and known is not None:
        named = known.cluster_id
    return Loss(kind, path, traces, tuple(records), tuple(broken), named, newest)


def set_aside(path: Path, word: str) -> Path | None:
    """Give a database that is of no use another name, with its journal; return it, or None when there was none."""
    taken = {file.name for file in path.parent.iterdir()}
    number = next(each for each in range(1, 10**6) if f"{path.name}.{word}-{each}" not in taken)
    aside = path.with_name(f"{path.name}.{word}-{number}")
    found = None
    for suffix in JOURNALS:
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(aside.with_name(aside.name + suffix))
            found = aside
    return found


def _traces(data_dir: Path, identity: str | None, files: int) -> Iterable[str]:
    if files:
        yield f"{files} file{'' if files == 1 else 's'} of machines in {DIRECTORY}"
    if identity is not None:
        yield f"its cluster id in {IDENTITY}"
    for name, words in ((LEASES, "leases of controllers"), (DRIVERS, "what drivers keep")):
        if _has_files(data_dir / name):
            yield f"{words} in {name}"


def _has_files(directory: Path) -> bool:
    with suppress(OSError):
        return any(each.is_file() for each in directory.rglob("*"))
    return False


def _kind(
    path: Path, known: _Known | None, records: list[MachineRecord], newest: int, identity: str | None
) -> LossKind | None:
    if known is None:
        return LossKind.EMPTY if path.exists() else LossKind.MISSING
    if known.cluster_id is None:
        return LossKind.EMPTY
    named = {record.cluster_id for record in records} | ({identity} if identity else set())
    if named - {known.cluster_id}:
        return LossKind.FOREIGN
    older = newest > known.seq or any(_is_ahead(record, known) for record in records)
    return LossKind.OLDER if older else None


def _is_ahead(record: MachineRecord, known: _Known) -> bool:
    """Whether a file tells of what the database does not know; one that a later removal left does not."""
    machine_id = record.machine.id
    if machine_id in known.generations:
        return record.machine.generation > known.generations[machine_id]
    return record.seq >= known.removals.get(machine_id, 0)


def _read(path: Path) -> _Known:
    """What a database knows, of any version; nothing for what has not the tables of an agent. Raises as `find_loss`."""
    try:
        with closing(sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None)) as connection:
            connection.execute("BEGIN")
            if connection.execute("SELECT 1 FROM alembic_version").fetchone() is None:
                return _Known()
            row = connection.execute("SELECT value FROM meta WHERE key = 'cluster_id'").fetchone()
            seq = connection.execute("SELECT max(seq) FROM events").fetchone()[0] or 0
            given = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'events'").fetchone()
            generations = dict(connection.execute("SELECT id, generation FROM machines"))
            removed = "SELECT machine_id, max(seq) FROM events WHERE kind = 'removed' GROUP BY machine_id"
            removals = dict(connection.execute(removed))
    except sqlite3.DatabaseError as error:
        if is_damage(error):
            return DAMAGED
        if is_of_statement(error):
            return _Known()
        raise unreachable(path, error) from error
    return _Known(None if row is None else str(row[0]), max(seq, given[0] if given else 0), generations, removals)
