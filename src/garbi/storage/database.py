"""Opens a database and gives out transactions; tells listeners what was written, after it is on the disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from sqlalchemy import Connection, RootTransaction

from garbi.storage.ballast import Ballast
from garbi.storage.conversion import converted_errors
from garbi.storage.engine import BUSY_TIMEOUT_S, make_engine, path_of, url_of

E = TypeVar("E")
"""What the service tells its listeners."""


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
        self._engine = make_engine(self.url, BUSY_TIMEOUT_S)
        self._listeners: list[Callable[[list[E]], None]] = []

    def on_commit(self, listener: Callable[[list[E]], None]) -> None:
        """Call `listener` with the events of every write, after its commit, in the writing thread."""
        self._listeners.append(listener)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A consistent view of the database."""
        with converted_errors(), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Transaction[E]]:
        """A write transaction: all of it or nothing.

        Raises NoSpace when the disk is full, Busy when another holds the lock (Undone when the same again may succeed at once),
        DatabaseUnavailable when the server does not answer: only then it may have been written all the same.
        """
        self.balance()
        with converted_errors(), self._engine.connect() as connection, _begun(connection):
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
