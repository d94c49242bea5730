"""Decides whether this controller leads: gains leadership with a new term, notices its loss, and says so to the loops.

With SQLite the lock of the database file is leadership, from open to close. With PostgreSQL a lock that the server keeps for one
connection is: who has it leads, the others wait for it in the server's own queue, and are woken by nothing but its end.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable
from typing import Protocol

from sqlalchemy import Connection

from garbi.base.clock import Clock
from garbi.base.errors import FinalError, GarbiError, NotLeading, TemporaryError
from garbi.base.failpoints import reach
from garbi.iaas.leadership.mandate import Mandate, Office, Superseded
from garbi.iaas.store import meta
from garbi.iaas.store.database import Database, Transaction

log = logging.getLogger(__name__)

SHORTEST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 5.0
"""Between two attempts to have the lock, when the server does not answer."""


class LeaderLock(Protocol):
    """What one controller at a time has. All but `interrupt` are called by one thread at a time."""

    def try_take(self) -> bool:
        """Take it if nobody has it; raises DatabaseUnavailable."""

    def take(self) -> bool:
        """Wait until nobody else has it, and take it; False when interrupted. Raises DatabaseUnavailable."""

    def keep(self, renewed: Callable[[float], None]) -> None:
        """Return when interrupted; raise DatabaseUnavailable when it is lost. `renewed` is told until when it is had for sure."""

    def interrupt(self) -> None:
        """Let `take` or `keep` return, now or when it is called next; from any thread."""

    def drop(self) -> None:
        """Let another have it."""


class Leadership:
    """Whether this controller leads. `lock` is None where nobody else can: then it leads from `start` to `stop`."""

    def __init__(
        self,
        database: Database,
        office: Office,
        clock: Clock,
        lock: LeaderLock | None = None,
        first: Callable[[], None] | None = None,
    ) -> None:
        """`first` is done once, with the lock and before the first term begins; whoever brings it does not follow another."""
        self.holder = office.holder
        self._first = first
        self._database = database
        self._office = office
        self._clock = clock
        self._lock = lock
        self._mandate: Mandate | None = None
        self._on_gain: Callable[[Mandate], None] = lambda _mandate: None
        self._on_loss: Callable[[], None] = lambda: None
        self._stopped = threading.Event()
        self._losing = threading.Lock()
        self._thread = threading.Thread(target=self._serve, name="leadership", daemon=True)

    @property
    def leads(self) -> bool:
        """Whether the loops of this controller work."""
        mandate = self._mandate
        return mandate is not None and mandate.leads

    @property
    def term(self) -> int:
        """The term under which this controller leads; 0 while it follows."""
        mandate = self._mandate
        return mandate.term if mandate is not None and mandate.leads else 0

    def check(self, transaction: Transaction) -> None:
        """Raise Superseded unless this controller leads; see `Mandate.check`."""
        mandate = self._mandate
        if mandate is None:
            raise Superseded("this controller does not lead")
        mandate.check(transaction)

    def require(self, what: str) -> None:
        """Raise NotLeading, which says that only the leader can do `what` and who that is, unless this controller leads."""
        if not self.leads:
            _, leader = self.present()
            raise NotLeading(
                f"{what} is for the controller that leads: this one follows, the last to lead was {leader}"
            )

    def present(self) -> tuple[int, str]:
        """The present term of the cloud, and who began it, in words for people."""
        with self._database.read() as connection:
            return _term(connection), meta.get(connection, meta.LEADER) or "nobody"

    def start(self, on_gain: Callable[[Mandate], None], on_loss: Callable[[], None]) -> None:
        """Lead if nobody else does; else follow, and wait. `on_gain` starts the loops, `on_loss` stops them."""
        self._on_gain, self._on_loss = on_gain, on_loss
        if self._lock is None:
            self._gain()
            return
        try:
            if self._lock.try_take():
                self._gain()
            elif self._first is not None:
                raise FinalError(f"another controller leads, {self.present()[1]}: stop it first")
        except TemporaryError as error:
            log.warning("leadership was not gained", extra={"detail": error.detail})
        self._thread.start()

    def stop(self, patience_s: float) -> None:
        """Lead no more, and let another; the loops have ended already. Waits at most `patience_s` seconds."""
        self._stopped.set()
        mandate = self._mandate
        if mandate is not None:
            mandate.end()
        if self._lock is not None:
            self._lock.interrupt()
            if self._thread.is_alive():
                self._thread.join(patience_s)
            else:  # it was never started, because what was to be done first could not be
                self._lock.drop()

    # Helpers in the order in which they are called

    def _gain(self) -> None:
        reach("leadership.lock.taken")
        first, self._first = self._first, None
        if first is not None:
            first()
        with self._database.write() as transaction:
            term = _term(transaction.connection) + 1
            meta.put(transaction, meta.TERM, str(term))
            meta.put(transaction, meta.LEADER, f"{socket.gethostname()} (pid {os.getpid()})")
            reach("leadership.term.written")
        reach("leadership.term.recorded")
        mandate = self._mandate = Mandate(self._office, term, self._clock, self._doubt)
        log.info("this controller leads", extra={"term": term})
        self._on_gain(mandate)
        reach("leadership.gained")

    def _doubt(self) -> None:
        if self._lock is not None:
            self._lock.interrupt()
        else:  # the caller may be one of the threads that the loss waits for
            threading.Thread(target=self._examine, name="leadership", daemon=True).start()

    def _serve(self) -> None:
        """Have the lock, or wait for it, until the end."""
        assert self._lock is not None  # noqa: S101 - the thread is started with a lock only
        pause = SHORTEST_PAUSE_S
        while not self._stopped.is_set():
            try:
                if self._mandate is None and self._lock.take() and not self._stopped.is_set():
                    self._gain()
                pause = SHORTEST_PAUSE_S
                self._keep(self._lock)
            except GarbiError as error:
                log.warning("leadership is uncertain", extra={"detail": error.detail})
            except Exception:  # the thread has to survive what it cannot foresee
                log.exception("leadership is uncertain")
            self._lose()
            self._lock.drop()
            self._stopped.wait(pause)
            pause = min(pause * 2, LONGEST_PAUSE_S)

    def _keep(self, lock: LeaderLock) -> None:
        """Return when leadership is lost, or the controller ends."""
        mandate = self._mandate
        while mandate is not None and not self._stopped.is_set():
            lock.keep(mandate.extend)
            if self._is_over(mandate):
                return

    def _examine(self) -> None:
        mandate = self._mandate
        if mandate is not None and self._is_over(mandate):
            log.error("another controller has written to the database; this one does nothing more")
            self._lose()

    def _is_over(self, mandate: Mandate) -> bool:
        term, _ = self.present()
        return term != mandate.term

    def _lose(self) -> None:
        with self._losing:
            mandate, self._mandate = self._mandate, None
            if mandate is None:
                return
            mandate.end()
            reach("leadership.lost")
            if not self._stopped.is_set():
                log.warning("this controller leads no more", extra={"term": mandate.term})
                self._on_loss()


def _term(connection: Connection) -> int:
    return int(meta.get(connection, meta.TERM) or 0)
