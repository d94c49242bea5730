"""One connection to PostgreSQL that is nobody else's: for what the server keeps as long as the connection lives.

Every wait hears at once when the connection ends, and can be interrupted from another thread; nothing is asked in vain.
"""

from __future__ import annotations

import os
import select
import weakref
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from sqlalchemy import make_url

from garbi.base.clock import Clock
from garbi.base.errors import DatabaseUnavailable, InvalidField
from garbi.storage.engine import CONNECT_TIMEOUT_S

if TYPE_CHECKING:
    import psycopg

KEEPALIVES: Mapping[str, Any] = {
    "keepalives_idle": 5,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    "tcp_user_timeout": 12_000,
}
"""Of this end: a server that was switched off is missed after a quarter of a minute (libpq; the last in milliseconds)."""


class Interrupted(Exception):
    """Somebody called `interrupt`."""


class Wake:
    """What ends a wait of another thread, now or the next one. Its pipe is given back when nobody can call it any more."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        weakref.finalize(self, _close, self._read, self._write)

    def __call__(self) -> None:
        """End the wait."""
        with suppress(BlockingIOError):  # it is full of earlier calls
            os.write(self._write, b"\0")

    def fileno(self) -> int:
        """What to wait for."""
        return self._read

    def clear(self) -> None:
        """Begin anew."""
        with suppress(BlockingIOError):
            while os.read(self._read, 512):
                pass


class Session:
    """A connection in autocommit, with `settings` of the server for it alone. For one thread."""

    def __init__(self, url: str, settings: Mapping[str, str], wake: Wake, clock: Clock) -> None:
        """Connect; raises DatabaseUnavailable. A server that is too old for a setting goes without it."""
        try:
            import psycopg
        except ModuleNotFoundError as error:
            raise InvalidField("database", "PostgreSQL needs the package psycopg: pip install 'garbi[iaas]'") from error
        self._broken: tuple[type[Exception], ...] = (psycopg.Error, OSError)
        self._wake = wake
        self._clock = clock
        address = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
        try:
            self._connection: psycopg.Connection = psycopg.connect(
                address, autocommit=True, connect_timeout=CONNECT_TIMEOUT_S, **KEEPALIVES
            )
        except self._broken as error:
            raise _gone(error) from error
        for name, value in settings.items():
            with suppress(*self._broken):
                self._connection.execute(f"SET {name} = '{value}'".encode())
        if self._connection.broken:
            raise DatabaseUnavailable("the database does not answer: it ended the connection")

    def ask(self, statement: str, limit_s: float | None = None) -> str | None:
        """The first value of the answer, as text.

        Raises DatabaseUnavailable when the connection ends or no answer comes within `limit_s` seconds. Without a limit it can
        be interrupted, and raises Interrupted: then the session is of no more use.
        """
        found: str | None = None
        pgconn = self._connection.pgconn
        try:
            pgconn.send_query(statement.encode())
            deadline = None if limit_s is None else self._clock.monotonic() + limit_s
            while True:
                while pgconn.is_busy():
                    if not self._wait(deadline, heed=limit_s is None):
                        raise DatabaseUnavailable(f"the database does not answer: nothing came within {limit_s} s")
                result = pgconn.get_result()
                if result is None:
                    return found
                if result.error_message:
                    raise DatabaseUnavailable(f"the database does not answer: {result.error_message.decode().strip()}")
                value = result.get_value(0, 0) if result.ntuples else None
                found = None if value is None else value.decode()
        except self._broken as error:
            raise _gone(error) from error

    def notes(self, limit_s: float | None = None) -> list[str]:
        """What others have said to the channels that are listened to: waits for some, at most `limit_s` seconds.

        Raises DatabaseUnavailable when the connection ends, and Interrupted.
        """
        deadline = None if limit_s is None else self._clock.monotonic() + limit_s
        try:
            while True:
                found = []
                while (note := self._connection.pgconn.notifies()) is not None:
                    found.append(note.extra.decode())
                if found or not self._wait(deadline, heed=True):
                    return found
        except self._broken as error:
            raise _gone(error) from error

    def close(self) -> None:
        """End the connection: what the server kept for it, it keeps no more."""
        with suppress(*self._broken):
            self._connection.close()

    def _wait(self, deadline: float | None, *, heed: bool) -> bool:
        """Wait until something came, and take it in; False when the deadline has passed. Interruptions are for who heeds them."""
        poll = select.poll()
        poll.register(self._connection.pgconn.socket, select.POLLIN)
        if heed:
            poll.register(self._wake.fileno(), select.POLLIN)
        left = None if deadline is None else max(deadline - self._clock.monotonic(), 0) * 1000
        ready = dict(poll.poll(left))
        if self._wake.fileno() in ready:
            self._wake.clear()
            raise Interrupted
        if ready:
            self._connection.pgconn.consume_input()
        return bool(ready)


def _close(*files: int) -> None:
    for file in files:
        os.close(file)


def _gone(error: Exception) -> DatabaseUnavailable:
    return DatabaseUnavailable(f"the database does not answer: {str(error).strip().partition(chr(10))[0]}")
