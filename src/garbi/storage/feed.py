"""Who wants to know what happens: subscribers of an event stream, and whoever waits for one thing."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Generic, Protocol, TypeVar

from sqlalchemy import Connection

from garbi.storage.database import Database

E = TypeVar("E")


class EventRows(Protocol[E]):
    """Where a service keeps its events."""

    def since(self, connection: Connection, seq: int, limit: int, /) -> list[E]:
        """At most `limit` events after the one numbered `seq`, the oldest first."""

    def last_seq(self, connection: Connection, /) -> int:
        """The number of the newest event."""


class EventFeed(Generic[E]):
    """Events as they are committed, and those of the past. An event with the number 0 passes by and is not kept.

    `rows` are those of the service, `subject_of` names what an event is about.
    """

    def __init__(self, database: Database[E], rows: EventRows[E], subject_of: Callable[[E], str]) -> None:
        self._database = database
        self._rows = rows
        self.subject_of = subject_of
        self._lock = threading.Lock()
        self._subscribers: dict[int, Callable[[E], None]] = {}
        self._waiting: dict[str, set[threading.Event]] = defaultdict(set)
        self._next_key = 0
        database.on_commit(self.publish)

    def since(self, seq: int, limit: int) -> list[E]:
        """At most `limit` events after the one numbered `seq`, the oldest first."""
        with self._database.read() as connection:
            return self._rows.since(connection, seq, limit)

    def last_seq(self) -> int:
        """The number of the newest event."""
        with self._database.read() as connection:
            return self._rows.last_seq(connection)

    def subscribe(self, subscriber: Callable[[E], None]) -> Callable[[], None]:
        """Call `subscriber` with every further event, in the thread that wrote it; the function returned ends that."""
        with self._lock:
            key = self._next_key
            self._next_key += 1
            self._subscribers[key] = subscriber

        def unsubscribe() -> None:
            with self._lock:
                self._subscribers.pop(key, None)

        return unsubscribe

    @contextmanager
    def signal_of(self, subject_id: str) -> Iterator[threading.Event]:
        """A flag that is raised by each event of what has that id; who waits clears it before looking again."""
        flag = threading.Event()
        with self._lock:
            self._waiting[subject_id].add(flag)
        try:
            yield flag
        finally:
            with self._lock:
                self._waiting[subject_id].discard(flag)
                if not self._waiting[subject_id]:
                    del self._waiting[subject_id]

    def let_go(self) -> None:
        """Have everybody who waits look again, because the service ends."""
        with self._lock:
            flags = [flag for waiting in self._waiting.values() for flag in waiting]
        for flag in flags:
            flag.set()

    def wake(self, subject_ids: Collection[str]) -> None:
        """Have those look again who wait for one of these."""
        with self._lock:
            flags = [flag for subject_id in subject_ids for flag in self._waiting.get(subject_id, ())]
        for flag in flags:
            flag.set()

    def publish(self, written: list[E]) -> None:
        """Tell everybody of events that were written: here, which happens by itself, or by another service."""
        with self._lock:
            subscribers = list(self._subscribers.values())
        self.wake([self.subject_of(event) for event in written])
        for event in written:
            for subscriber in subscribers:
                subscriber(event)
