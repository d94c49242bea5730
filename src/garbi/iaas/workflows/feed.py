"""Who wants to know what happens in a cloud: subscribers of the event stream, and whoever waits for one thing."""

from __future__ import annotations

from garbi.iaas.model.event import Event
from garbi.iaas.store import events
from garbi.iaas.store.database import Database
from garbi.storage import feed

EventFeed = feed.EventFeed[Event]


def open_feed(database: Database) -> EventFeed:
    """The feed of a cloud's events."""
    return feed.EventFeed(database, events, lambda event: event.id)
