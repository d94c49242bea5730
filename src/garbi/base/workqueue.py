"""Which machines have to be looked at: each at most once at a time, none forgotten, whatever wakes it and how often."""

from __future__ import annotations

import heapq
import threading
from collections import deque
from collections.abc import Callable


class WorkQueue:
    """A queue of ids without duplicates. An id that is added while a worker has it is given out again afterwards.

    `add_later` gives an id out after a delay in seconds. `monotonic` is the clock.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._changed = threading.Condition()
        self._ready: deque[str] = deque()
        self._dirty: set[str] = set()
        self._taken: set[str] = set()
        self._later: list[tuple[float, str]] = []
        self._closed = False

    def add(self, item: str) -> None:
        """Have `item` looked at soon."""
        with self._changed:
            self._add(item)

    def add_later(self, item: str, delay_s: float) -> None:
        """Have `item` looked at after `delay_s` seconds."""
        with self._changed:
            heapq.heappush(self._later, (self._monotonic() + delay_s, item))
            self._changed.notify()

    def take(self) -> str | None:
        """Wait for an item and take it; `done` must follow. None when the queue was closed."""
        with self._changed:
            while not self._closed:
                pause = self._move_due()
                if self._ready:
                    item = self._ready.popleft()
                    self._dirty.discard(item)
                    self._taken.add(item)
                    return item
                self._changed.wait(pause)
            return None

    def done(self, item: str) -> None:
        """The worker has finished with `item`."""
        with self._changed:
            self._taken.discard(item)
            if item in self._dirty:
                self._ready.append(item)
                self._changed.notify()

    def waiting(self) -> int:
        """How many items nobody has in hand that could be taken now."""
        with self._changed:
            return len(self._ready)

    def close(self) -> None:
        """Send every worker home."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _add(self, item: str) -> None:
        if item in self._dirty:
            return
        self._dirty.add(item)
        if item not in self._taken:
            self._ready.append(item)
            self._changed.notify()

    def _move_due(self) -> float | None:
        """Move what is due to the ready ones; return the seconds until the next is."""
        now = self._monotonic()
        while self._later and self._later[0][0] <= now:
            self._add(heapq.heappop(self._later)[1])
        return self._later[0][0] - now if self._later else None
