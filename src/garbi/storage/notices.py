"""Carries events between services on one PostgreSQL database (LISTEN, NOTIFY), so that each hears all of them, once, at once.

A notice says who wrote, and up to which number: the events themselves are read from their table, where none is missed. Writers
come one after the other (see `engine`), so notices come in the order of the numbers.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

from sqlalchemy import text

from garbi.base.clock import Clock
from garbi.base.errors import GarbiError
from garbi.storage.database import Database, Transaction
from garbi.storage.feed import EventFeed
from garbi.storage.session import Interrupted, Session, Wake

log = logging.getLogger(__name__)

CHANNEL = "garbi_events"
LARGEST = 7000
"""Bytes that a notice may have (PostgreSQL allows 8000)."""

PAGE = 500
ANSWER_S = 10.0
SHORTEST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 5.0
"""Between two attempts to listen."""

SETTINGS = {"tcp_keepalives_idle": "5", "tcp_keepalives_interval": "3", "tcp_keepalives_count": "3"}


class Numbered(Protocol):
    """An event with a number that grows; 0 for one that passes by and is not kept."""

    @property
    def seq(self) -> int: ...


E = TypeVar("E", bound=Numbered)


class Notices(Generic[E]):
    """Says what this service writes, as `sender`, and tells `feed` and `hear` what others write; `hear` must not raise."""

    def __init__(
        self, database: Database[E], feed: EventFeed[E], sender: str, hear: Callable[[list[E]], None], clock: Clock
    ) -> None:
        self._database = database
        self._feed = feed
        self._sender = sender
        self._hear = hear
        self._clock = clock
        self._lock = threading.Lock()
        self._own: set[int] = set()
        self._doubtful: set[int] = set()
        self._seq = 0
        self._wake = Wake()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin with the events after the newest; raises DatabaseUnavailable."""
        session = self._listen()
        self._seq = self._feed.last_seq()
        self._database.heralded_by(self)
        self._thread = threading.Thread(target=self._hear_forever, args=(session,), name="notices", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Listen no more."""
        self._stopped.set()
        self._wake()

    def join(self, patience_s: float) -> None:
        """Wait for the thread, at most `patience_s` seconds."""
        if self._thread is not None:
            self._thread.join(patience_s)

    def announce(self, transaction: Transaction[E]) -> None:
        """Have the server tell the others when the transaction is committed."""
        numbers = [event.seq for event in transaction.events if event.seq]
        with self._lock:
            self._own.update(numbers)
        notice: dict[str, Any] = {"from": self._sender, "seq": max(numbers, default=0)}
        passing = {self._feed.subject_of(event) for event in transaction.events if not event.seq}
        payload = json.dumps(notice | ({"passing": sorted(passing)} if passing else {}))
        if len(payload) > LARGEST:
            payload = json.dumps(notice | {"passing": None})
        say = text("SELECT pg_notify(:channel, :payload)")
        transaction.connection.execute(say, {"channel": CHANNEL, "payload": payload})

    def abandon(self, events: list[E]) -> None:
        """If they were written all the same, they are told as those of others are."""
        numbers = {event.seq for event in events if event.seq}
        with self._lock:
            self._own -= numbers
            self._doubtful |= {number for number in numbers if number <= self._seq}
        self._wake()

    # Helpers in the order in which they are called

    def _listen(self) -> Session:
        session = Session(self._database.url, SETTINGS, self._wake, self._clock)
        try:
            session.ask(f"LISTEN {CHANNEL}", ANSWER_S)
        except GarbiError:
            session.close()
            raise
        return session

    def _hear_forever(self, session: Session | None) -> None:
        pause = SHORTEST_PAUSE_S
        while not self._stopped.is_set():
            try:
                if session is None:
                    session = self._listen()
                    self._go_back()
                    self._catch_up()
                    self._feed.let_go()  # what passed by meanwhile is known to nobody
                pause = SHORTEST_PAUSE_S
                self._hear_on(session)
            except GarbiError as error:
                log.warning("what other controllers write is not heard", extra={"detail": error.detail})
            except Exception:  # the thread has to survive what it cannot foresee
                log.exception("what other controllers write is not heard")
            if session is not None:
                session.close()
                session = None
            self._stopped.wait(pause)
            pause = min(pause * 2, LONGEST_PAUSE_S)

    def _hear_on(self, session: Session) -> None:
        while not self._stopped.is_set():
            try:
                for note in session.notes():
                    self._take(json.loads(note))
            except Interrupted:
                self._clear_doubts()

    def _take(self, notice: dict[str, Any]) -> None:
        number = int(notice["seq"])
        if notice["from"] == self._sender and self._is_own(number):
            self._pass(number)
            return
        if number > self._seq:
            self._catch_up()
        passing = notice.get("passing", ())
        if passing is None:
            self._feed.let_go()
        elif notice["from"] != self._sender:
            self._feed.wake(passing)

    def _is_own(self, number: int) -> bool:
        with self._lock:
            return number == 0 or number <= self._seq or number in self._own

    def _pass(self, number: int) -> None:
        with self._lock:
            self._seq = max(self._seq, number)
            self._own = {each for each in self._own if each > self._seq}

    def _go_back(self) -> None:
        """A server that lost its last commits (a replica took over) gives their numbers again, to other events: which of the last
        ones that it has are such is not known, so that they are told once more."""
        newest = self._feed.last_seq()
        with self._lock:
            if newest < self._seq:
                self._seq = max(newest - PAGE, 0)
                self._own.clear()
                self._doubtful.clear()

    def _catch_up(self) -> None:
        """Read on after the last number, and tell of what was not told by who wrote it here."""
        while page := self._feed.since(self._seq, PAGE):
            with self._lock:
                foreign = [event for event in page if event.seq not in self._own]
                self._doubtful -= {event.seq for event in foreign}
            self._pass(page[-1].seq)
            self._tell(foreign)

    def _clear_doubts(self) -> None:
        """Tell of events whose writer could not know that they were written, and whose notice has passed already."""
        with self._lock:
            doubtful, self._doubtful = self._doubtful, set()
        if doubtful:
            page = self._feed.since(min(doubtful) - 1, PAGE)
            self._tell([event for event in page if event.seq in doubtful])

    def _tell(self, events: list[E]) -> None:
        if events:
            self._feed.publish(events)
            self._hear(events)
