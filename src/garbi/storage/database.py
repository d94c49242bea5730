"""Opens a database and gives out transactions; tells listeners what was written, after it is on the disk."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, Protocol, Self, TypeVar

from sqlalchemy import Connection, RootTransaction

from garbi.base.errors import DatabaseDamaged, NoSpace, StorageFailed
from garbi.storage.ballast import Ballast
from garbi.storage.conversion import converted_errors
from garbi.storage.engine import BUSY_TIMEOUT_S, is_sqlite, make_engine, path_of, url_of
from garbi.storage.writable import Writable

E = TypeVar("E")
"""What the service tells its listeners."""


@dataclass(slots=True)
class Transaction(Generic[E]):
    """A running write: the connection, and the events that it will have written.

    `noted` names what else has changed, for heralds only; they add to `finishing` what is to be done once it is committed.
    """

    connection: Connection
    events: list[E] = field(default_factory=list)
    noted: list[str] = field(default_factory=list)
    finishing: list[Callable[[], None]] = field(default_factory=list)


class Herald(Protocol[E]):
    """Tells other services on the same database what this one writes."""

    def announce(self, transaction: Transaction[E]) -> None:
        """Say it, in the transaction that writes it."""

    def abandon(self, events: list[E]) -> None:
        """Nobody here was told of these after all: the transaction failed, or its end is not known."""


class Database(Generic[E]):
    """A database whose commits survive a power cut: an SQLite file (a path), or what a URL says.

    `kept_dir` is the directory whose disk is kept from filling up; that of the file by default.
    """

    def __init__(self, place: Path | str, kept_dir: Path | None = None) -> None:
        self.url = url_of(place) if isinstance(place, Path) else place
        if kept_dir is None and not is_sqlite(self.url):
            raise ValueError("a database of a server has no directory of its own: kept_dir is needed")
        self._ballast = Ballast(kept_dir or path_of(self.url).parent)
        self._writable = Writable(kept_dir or path_of(self.url).parent)
        self._engine = make_engine(self.url, BUSY_TIMEOUT_S)
        self._listeners: list[Callable[[list[E]], None]] = []
        self._heralds: list[Herald[E]] = []
        self._damages: list[str] = []  # one list for all that `under` makes
        self._condition: Callable[[Transaction[E]], None] = lambda _transaction: None

    def under(self, condition: Callable[[Transaction[E]], None]) -> Self:
        """The same database, for one who may write while `condition` holds only: each write asks it first, and it may raise."""
        bound = copy.copy(self)
        bound._condition = condition
        return bound

    def heralded_by(self, herald: Herald[E]) -> None:
        """Let `herald` say in each transaction what it writes."""
        self._heralds.append(herald)

    def on_commit(self, listener: Callable[[list[E]], None]) -> None:
        """Call `listener` with the events of every write, after its commit, in the writing thread."""
        self._listeners.append(listener)

    @property
    def damage(self) -> str | None:
        """What was found damaged of the file since it was opened; None: nothing."""
        return self._damages[0] if self._damages else None

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A consistent view of the database."""
        with self._noted_failures(), converted_errors(), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Transaction[E]]:
        """A write transaction: all of it or nothing.

        Raises NoSpace when the disk is full, StorageFailed when it has failed, DatabaseDamaged when the file is, Busy when
        another holds the lock (Undone when the same again may succeed at once), DatabaseUnavailable when the server does not
        answer: only then it may have been written all the same.
        """
        announced = False
        try:
            with (
                self._noted_failures(),
                self._balanced(),
                converted_errors(),
                self._engine.connect() as connection,
                _begun(connection),
            ):
                transaction: Transaction[E] = Transaction(connection)
                self._condition(transaction)
                yield transaction
                for herald in self._heralds if transaction.events or transaction.noted else ():
                    announced = True
                    herald.announce(transaction)
        except BaseException:
            for herald in self._heralds if announced else ():
                herald.abandon(transaction.events)
            raise
        for finish in transaction.finishing:
            finish()
        if transaction.events:
            for listener in self._listeners:
                listener(transaction.events)

    @contextmanager
    def _noted_failures(self) -> Iterator[None]:
        try:
            yield
        except StorageFailed as error:
            if self._ballast.is_full():  # that is what SQLite says of a full disk where it makes room for its journal
                raise NoSpace(
                    f"the disk of the data directory is full: {error.detail}; free some space on it"
                ) from error
            self._writable.note_failure(error.detail)
            raise
        except DatabaseDamaged as error:
            self._damages[:] = [error.detail]
            raise

    @contextmanager
    def _balanced(self) -> Iterator[None]:
        self.balance()
        yield

    def unwritable(self) -> str:
        """Why nothing can be written on the disk of the service; empty when it can, or is only full."""
        return self._writable.failure()

    def look_at_disk(self) -> None:
        """Find out whether the disk of the service can be written: to be called once in a while where nothing else is."""
        self._writable.look()

    def balance(self) -> None:
        """Keep space on the disk for later writes, or give them what was kept; see `Ballast`."""
        self._ballast.balance()

    def require_room(self) -> None:
        """Raise NoSpace when the disk has no room for anything new. Writes about what is here already go on for long."""
        self._ballast.require_room()

    def close(self) -> None:
        """Close every connection."""
        self._writable.close()
        self._engine.dispose()


def _begun(connection: Connection) -> RootTransaction:
    """A transaction that excludes other writers from its first moment on."""
    return connection.execution_options(garbi_write=True).begin()
