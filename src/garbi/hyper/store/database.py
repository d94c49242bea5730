"""Opens the database of a host and gives out transactions; tells listeners what was written, after it is on the disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import OperationalError

from garbi.base.errors import Busy, NoSpace
from garbi.hyper.model.event import Event
from garbi.hyper.store.ballast import Ballast

BUSY_TIMEOUT_S = 30


@dataclass(slots=True)
class Transaction:
    """A running write: the connection, and the events that it will have written."""

    connection: Connection
    events: list[Event] = field(default_factory=list)


class Database:
    """One SQLite file on a local disk, in WAL with full synchronisation: what was committed survives a power cut."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ballast = Ballast(path.parent)
        self._engine = _make_engine(path)
        self._listeners: list[Callable[[list[Event]], None]] = []

    def on_commit(self, listener: Callable[[list[Event]], None]) -> None:
        """Call `listener` with the events of every write, after its commit, in the writing thread."""
        self._listeners.append(listener)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A consistent view of the database."""
        with _converted_errors(), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        """A write transaction: all of it or nothing. Raises NoSpace when the disk is full, Busy when another holds the lock."""
        self.balance()
        connection = self._engine.connect().execution_options(garbi_write=True)
        with _converted_errors(), connection, connection.begin():
            transaction = Transaction(connection)
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


def _make_engine(path: Path) -> Engine:
    engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": BUSY_TIMEOUT_S, "check_same_thread": False})

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # SQLAlchemy says when a transaction begins, not the driver
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "cache_size=-1024"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # IMMEDIATE: a writer takes the lock before it reads, so what it read is still true when it writes.
        writes = connection.get_execution_options().get("garbi_write")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


@contextmanager
def _converted_errors() -> Iterator[None]:
    try:
        yield
    except OperationalError as error:
        text = str(error.orig)
        if "full" in text or "disk I/O error" in text:
            raise NoSpace(
                f"the database cannot be written: {text}; free some space on the disk of the data directory"
            ) from error
        if "locked" in text:
            raise Busy(f"the database is busy: {text}") from error
        raise
