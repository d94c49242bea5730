"""Who wants to know what happens to machines: subscribers of the event stream, and requests that wait for one machine."""

from __future__ import annotations

import threading

from garbi.hyper.model.event import Event
from garbi.hyper.store import events
from garbi.hyper.store.database import Database
from garbi.storage import feed

EventFeed = feed.EventFeed[Event]


def open_feed(database: Database) -> EventFeed:
    """The feed of a host's events."""
    return feed.EventFeed(database, events, lambda event: event.machine_id)


class NewestEvent:
    """The number of the newest event, known without a look into the database."""

    def __init__(self, events: EventFeed) -> None:
        self._lock = threading.Lock()
        self.seq = 0
        events.subscribe(lambda event: self._note(event.seq))
        self._note(events.last_seq())

    def _note(self, seq: int) -> None:
        with self._lock:  # two writers may tell in another order than they wrote
            self.seq = max(self.seq, seq)
