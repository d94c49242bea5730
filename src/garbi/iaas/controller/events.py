"""Who wants to know what happens in a cloud: subscribers of the event stream, and requests that wait for one thing."""

from __future__ import annotations

from collections.abc import Callable

from garbi.iaas.model.event import Event

Subscriber = Callable[[Event], None]


class EventFeed:
    """Events as they are committed, and those of the past."""

    def since(self, seq: int, limit: int) -> list[Event]:
        """At most `limit` events after the one numbered `seq`, the oldest first."""
        raise NotImplementedError

    def last_seq(self) -> int:
        """The number of the newest event."""
        raise NotImplementedError

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """Call `subscriber` with every further event, in the thread that wrote it; the function returned ends that."""
        raise NotImplementedError
