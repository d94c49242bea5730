"""How a database is spoken to: SQLite on a local disk, or PostgreSQL where one machine is outgrown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from garbi.base.errors import InvalidField

BUSY_TIMEOUT_S = 30
CONNECT_TIMEOUT_S = 10
SILENT_WRITER_S = 15
"""A writer of PostgreSQL that says nothing for so long (it is frozen, its host is gone) is cut off; shorter than others wait."""

WRITERS = 721464
"""The advisory lock that a writer of PostgreSQL holds until its transaction has ended."""
LEADERS = 721465
"""The advisory lock that the leader of several services keeps."""

KINDS = ("sqlite", "postgresql")


def url_of(path: Path) -> str:
    """The URL of an SQLite file."""
    return f"sqlite:///{path}"


def is_sqlite(url: str) -> bool:
    """Whether a URL leads to an SQLite file."""
    return url.startswith("sqlite:")


def path_of(url: str) -> Path:
    """The file of an SQLite URL."""
    return Path(make_url(url).database or "")


def make_engine(url: str, busy_timeout_s: float = BUSY_TIMEOUT_S, quick: bool = False) -> Engine:
    """An engine whose transactions are whole, changes of the schema included; raises InvalidField for a useless URL.

    In SQLite every commit is on the disk before it is answered; `quick` leaves the journal as it is, for one short use. Errors
    do not show the values of a statement: there are secrets among them.
    """
    try:
        kind = make_url(url).get_backend_name()
    except ArgumentError:
        kind = ""
    if kind not in KINDS:
        rule = "sqlite:////path/of/a/file or postgresql://user:password@host/name"
        raise InvalidField("database", f"the database takes {rule}", allowed=rule)
    return _sqlite_engine(url, busy_timeout_s, quick) if kind == "sqlite" else _postgresql_engine(url, busy_timeout_s)


def _sqlite_engine(url: str, busy_timeout_s: float, quick: bool) -> Engine:
    connect_args = {"timeout": busy_timeout_s, "check_same_thread": False}
    engine = create_engine(url, connect_args=connect_args, hide_parameters=True, pool_timeout=busy_timeout_s)
    pragmas = ("synchronous=FULL", "foreign_keys=ON", "cache_size=-1024")

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # SQLAlchemy says when a transaction begins, not the driver
        for pragma in () if quick else ("journal_mode=WAL", *pragmas):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # IMMEDIATE: a writer takes the lock before it reads, so what it read is still true when it writes.
        writes = connection.get_execution_options().get("garbi_write")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _postgresql_engine(url: str, busy_timeout_s: float) -> Engine:
    """READ COMMITTED, the default: what must not be is refused by constraints and conditional updates, not by luck.

    Writers come one after the other, as in SQLite: so numbers that are given to rows grow with the commits, none waits for
    one that waits for it, and what a writer read is still true when it writes. A writer that falls silent in its transaction
    is cut off, for all the others wait for it. Readers wait for nobody and see one moment.
    """
    limits = {
        "lock_timeout": int(busy_timeout_s * 1000),
        "idle_in_transaction_session_timeout": SILENT_WRITER_S * 1000,
    }
    try:
        engine = create_engine(
            make_url(url).set(drivername="postgresql+psycopg"),
            hide_parameters=True,
            pool_pre_ping=True,
            pool_size=16,
            pool_timeout=busy_timeout_s,
            connect_args={
                "connect_timeout": CONNECT_TIMEOUT_S,
                "options": " ".join(f"-c {name}={value}" for name, value in limits.items()),
            },
        )
    except (ModuleNotFoundError, NoSuchModuleError) as error:
        raise InvalidField("database", "PostgreSQL needs the package psycopg: pip install 'garbi[iaas]'") from error

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("garbi_write")
        if writes:
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({WRITERS})")
        else:
            connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")

    return engine
