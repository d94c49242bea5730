"""Who wants to know what happens to machines: subscribers of the event stream, and requests that wait for one machine."""

from __future__ import annotations

from garbi.hyper.model.event import Event
from garbi.hyper.store import events
from garbi.hyper.store.database import Database
from garbi.storage import feed

EventFeed = feed.EventFeed[Event]


def open_feed(database: Database) -> EventFeed:
    """The feed of a host's events."""
    return feed.EventFeed(database, events, lambda event: event.machine_id)
