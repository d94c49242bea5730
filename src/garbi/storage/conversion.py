"""What a database says of itself, in Garbi's words: it is busy, full, or gone. What it says of a statement stays as it is."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from garbi.base.errors import Busy, DatabaseDamaged, DatabaseUnavailable, GarbiError, NoSpace, StorageFailed

REFUSED = {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN}
"""Codes of SQLite (the lowest byte): the disk answered with an error, or cannot be written. Of a full one, too, it says so."""
DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
"""Codes of SQLite (the lowest byte of an extended one): a page is not what was written, or the file is no database at all."""

LOCKED = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
"""Codes of SQLite (the lowest byte): somebody else has the file, or a table of it."""

DISK = DAMAGED | REFUSED | {sqlite3.SQLITE_FULL}

FULL = {"53100"}
UNDONE = {"40001", "40P01"}
BUSY = {"53200", "53300", "53400", "55P03", "57014"}
GONE = {"25006", "25P03", "57P01", "57P02", "57P03", "57P05", "58030"}
"""States of PostgreSQL (its manual, appendix A): the disk is full; a deadlock; no lock, memory or connection to be had; the
server ends, begins, is a copy that cannot be written, or gave up on a silent client."""


class Undone(Busy):
    """The database undid a transaction in favour of another: the same again may succeed at once."""


@contextmanager
def converted_errors() -> Iterator[None]:
    """Raise NoSpace, StorageFailed, Busy, Undone, DatabaseDamaged or DatabaseUnavailable for what the database says of itself."""
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
    words = first_line(error)
    if state in FULL or _code(error.orig) in DISK:
        return _of_disk(_code(error.orig), words)
    if state in UNDONE:
        return Undone(f"the database is busy: {words}")
    if state in BUSY or (isinstance(error.orig, sqlite3.OperationalError) and "locked" in words):
        return Busy(f"the database is busy: {words}")
    if state in GONE or str(state).startswith("08") or error.connection_invalidated or _is_unconnected(error):
        return DatabaseUnavailable(f"the database does not answer: {words}")
    return None


def _of_disk(code: int | None, words: str) -> GarbiError:
    """The error for what a disk did to the database, by the code of SQLite; without one it is full."""
    if code in DAMAGED:
        return DatabaseDamaged(f"the database is damaged: {words}; stop the service, and put back a copy of it")
    if code in REFUSED:
        return StorageFailed(f"the disk of the database has failed: {words}")
    return NoSpace(f"the database cannot be written: {words}; free some space on the disk of the data directory")


def is_damage(error: object) -> bool:
    """Whether SQLite says that the file itself is damaged."""
    return _code(error) in DAMAGED


def is_of_statement(error: object) -> bool:
    """Whether SQLite says that what a statement names, a table for instance, is not there: the file itself was read."""
    return _code(error) == sqlite3.SQLITE_ERROR


def unreachable(path: Path, error: sqlite3.Error) -> GarbiError:
    """The error for a file of SQLite that cannot be read now, whatever is in it."""
    code = _code(error)
    words = f"the database {path} cannot be looked at ({error}), nothing was changed: "
    if code in LOCKED:
        return Busy(f"{words}another program holds it; end that, or try again in a moment")
    if code == sqlite3.SQLITE_FULL:
        return NoSpace(f"{words}free some space on its disk")
    return StorageFailed(f"{words}see that its disk works and has space, and that this user may read and write it")


def _code(error: object) -> int | None:
    """The primary code of an error of SQLite, without what makes it an extended one."""
    code = getattr(error, "sqlite_errorcode", None) if isinstance(error, sqlite3.Error) else None
    return None if code is None else code & 0xFF


def first_line(error: DBAPIError) -> str:
    """What the database said, without the statement and its values."""
    return str(error.orig).strip().partition("\n")[0]


def _is_unconnected(error: DBAPIError) -> bool:
    """A server's own errors have a state; what has none, the client found out by itself."""
    ours = not isinstance(error.orig, sqlite3.Error) and getattr(error.orig, "sqlstate", None) is None
    return ours and isinstance(error, OperationalError | InterfaceError)
