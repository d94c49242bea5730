"""Opens a database and gives out transactions; tells listeners what was written, after it is on the disk."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from sqlalchemy import Connection, RootTransaction
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from garbi.base.errors import Busy, DatabaseUnavailable, GarbiError, NoSpace
from garbi.storage.ballast import Ballast
from garbi.storage.engine import make_engine, path_of, url_of

E = TypeVar("E")
"""What the service tells its listeners."""

SQLITE_FULL = re.compile("full|disk I/O error")

FULL = {"53100"}
UNDONE = {"40001", "40P01"}
BUSY = {"53200", "53300", "53400", "55P03", "57014"}
GONE = {"25006", "25P03", "57P01", "57P02", "57P03", "57P05", "58030"}
"""States of PostgreSQL (its manual, appendix A): the disk is full; a deadlock; no lock, memory or connection to be had; the
server ends, begins, is a copy that cannot be written, or gave up on a silent client."""


class Undone(Busy):
    """The database undid a transaction in favour of another: the same again may succeed at once."""


@dataclass(slots=True)
class Transaction(Generic[E]):
    """A running write: the connection, and the events that it will have written."""

    connection: Connection
    events: list[E] = field(default_factory=list)


class Database(Generic[E]):
    """A database whose commits survive a power cut: an SQLite file (a path), or what a URL says.

    `kept_dir` is the directory whose disk is kept from filling up; that of the file by default.
    """

    def __init__(self, place: Path | str, kept_dir: Path | None = None) -> None:
        self.url = url_of(place) if isinstance(place, Path) else place
        self._ballast = Ballast(kept_dir or path_of(self.url).parent)
        self._engine = make_engine(self.url)
        self._listeners: list[Callable[[list[E]], None]] = []

    def on_commit(self, listener: Callable[[list[E]], None]) -> None:
        """Call `listener` with the events of every write, after its commit, in the writing thread."""
        self._listeners.append(listener)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A consistent view of the database."""
        with _converted_errors(), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Transaction[E]]:
        """A write transaction: all of it or nothing.

        Raises NoSpace when the disk is full, Busy when another holds the lock (Undone when the same again may succeed at once),
        DatabaseUnavailable when the server does not answer: only then it may have been written all the same.
        """
        self.balance()
        with _converted_errors(), self._engine.connect() as connection, _begun(connection):
            transaction: Transaction[E] = Transaction(connection)
            yield transaction
        if transaction.events:
            for listener in self._listeners:
                listener(transaction.events)

    def balance(self) -> None:
        """Keep space on the disk for later writes, or give them what was kept; see `Ballast`."""
        self._ballast.balance()

    def require_room(self) -> None:
        """Raise NoSpace when the disk has no room for anything new. Writes about what is here already go on for long."""
        self._ballast.require_room()

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()


def _begun(connection: Connection) -> RootTransaction:
    """A transaction that excludes other writers from its first moment on."""
    return connection.execution_options(garbi_write=True).begin()


@contextmanager
def _converted_errors() -> Iterator[None]:
    try:
        yield
    except PoolTimeout as error:
        raise Busy("the database is busy: every connection to it is in use") from error
    except DBAPIError as error:
        converted = _converted(error)
        if converted is None:
            raise
        raise converted from error


def _converted(error: DBAPIError) -> GarbiError | None:
    """The error for what the database says of itself; None for what it says of a statement."""
    state = getattr(error.orig, "sqlstate", None)
    words = str(error.orig).strip().partition("\n")[0]
    if state in FULL or (isinstance(error.orig, sqlite3.OperationalError) and SQLITE_FULL.search(words)):
        return NoSpace(f"the database cannot be written: {words}; free some space on the disk of the data directory")
    if state in UNDONE:
        return Undone(f"the database is busy: {words}")
    if state in BUSY or (isinstance(error.orig, sqlite3.OperationalError) and "locked" in words):
        return Busy(f"the database is busy: {words}")
    if state in GONE or str(state).startswith("08") or error.connection_invalidated or _is_unconnected(error):
        return DatabaseUnavailable(f"the database does not answer: {words}")
    return None


def _is_unconnected(error: DBAPIError) -> bool:
    """A server's own errors have a state; what has none, the client found out by itself."""
    ours = not isinstance(error.orig, sqlite3.Error) and getattr(error.orig, "sqlstate", None) is None
    return ours and isinstance(error, OperationalError | InterfaceError)
