"""Who wants to know what happens in a cloud: subscribers of the event stream, and whoever waits for one thing."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from garbi.iaas.model.event import Event
from garbi.iaas.store import events
from garbi.iaas.store.database import Database

Subscriber = Callable[[Event], None]


class EventFeed:
    """Events as they are committed, and those of the past. An event with the number 0 passes by and is not kept."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._subscribers: dict[int, Subscriber] = {}
        self._waiting: dict[str, set[threading.Event]] = defaultdict(set)
        self._next_key = 0
        database.on_commit(self._publish)

    def since(self, seq: int, limit: int) -> list[Event]:
        """At most `limit` events after the one numbered `seq`, the oldest first."""
        with self._database.read() as connection:
            return events.since(connection, seq, limit)

    def last_seq(self) -> int:
        """The number of the newest event."""
        with self._database.read() as connection:
            return events.last_seq(connection)

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
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
        """Have everybody who waits look again, because the controller ends."""
        with self._lock:
            flags = [flag for waiting in self._waiting.values() for flag in waiting]
        for flag in flags:
            flag.set()

    def _publish(self, written: list[Event]) -> None:
        with self._lock:
            subscribers = list(self._subscribers.values())
            flags = [flag for event in written for flag in self._waiting.get(event.id, ())]
        for flag in flags:
            flag.set()
        for event in written:
            for subscriber in subscribers:
                subscriber(event)
