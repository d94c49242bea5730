"""A lock that PostgreSQL keeps for one connection: several services on one database agree on one of them by it.

It is lost with the connection, and the server ends that of a service which is silent (frozen, cut off, switched off) within
SILENCE_S seconds. The holder knows that: it counts on the lock for less long than the server does.
"""

from __future__ import annotations

from collections.abc import Callable

from garbi.base.clock import Clock
from garbi.storage.session import Interrupted, Session, Wake

SILENCE_S = 15
"""After so many seconds without a word the server gives the lock to another."""

WORD_S = 3.0
"""Between two words to the server."""

ANSWER_S = 6.0
"""How long its answer may take."""

CERTAIN_S = 12.0
"""How long after a word, at most, the holder takes the lock for its own."""

SETTINGS = {
    "idle_session_timeout": f"{SILENCE_S}s",
    "client_connection_check_interval": "5s",
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "3",
    "tcp_keepalives_count": "3",
    "lock_timeout": "0",
    "statement_timeout": "0",
}
"""Of the server's end, for this connection."""


class SessionLock:
    """The lock `key` of a database. All but `interrupt` are for one thread at a time."""

    def __init__(self, url: str, key: int, clock: Clock) -> None:
        self._url = url
        self._key = key
        self._clock = clock
        self._wake = Wake()
        self._session: Session | None = None

    def try_take(self) -> bool:
        """Take it if nobody has it; raises DatabaseUnavailable."""
        try:
            return self._open().ask(f"SELECT pg_try_advisory_lock({self._key})", ANSWER_S) == "t"
        except Interrupted:
            return False

    def take(self) -> bool:
        """Wait until nobody else has it, and take it; False when interrupted. Raises DatabaseUnavailable."""
        try:
            self._open().ask(f"SELECT pg_advisory_lock({self._key})")
        except Interrupted:
            self.drop()
            return False
        return True

    def keep(self, renewed: Callable[[float], None]) -> None:
        """Return when interrupted; raise DatabaseUnavailable when it is lost.

        `renewed` is told, in seconds since boot, until when nobody else can have it.
        """
        session = self._open()
        try:
            while True:
                asked = self._clock.since_boot()
                session.ask("SELECT 1", ANSWER_S)
                renewed(asked + CERTAIN_S)
                session.notes(WORD_S)
        except Interrupted:
            return

    def interrupt(self) -> None:
        """Let `take` or `keep` return, now or when it is called next; from any thread."""
        self._wake()

    def drop(self) -> None:
        """Let another have it."""
        session, self._session = self._session, None
        if session is not None:
            session.close()

    def _open(self) -> Session:
        if self._session is None:
            self._session = Session(self._url, SETTINGS, self._wake, self._clock)
        return self._session
