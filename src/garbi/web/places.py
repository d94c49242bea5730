"""How many requests may wait, send content or listen at a time, and the end of them all when the server ends."""

from __future__ import annotations

import threading
import time
from asyncio import Event as Wake
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import anyio
from fastapi import Response

from garbi.base.errors import Busy
from garbi.web.preferences import Patience

MAX_WAITERS = 96
MAX_UPLOADS = 16
MAX_THREADS = 144
"""Threads for requests: more than may wait and upload, so that there is always one for those who only look."""

MAX_STREAMS = 64
LOOK_S = 1.0
"""How long a waiting request goes on after the server was told to end, in seconds."""

T = TypeVar("T")
P = TypeVar("P")


class Places:
    """One server's places. A silent event stream speaks every `keep_alive_s` seconds."""

    def __init__(self, keep_alive_s: float) -> None:
        self.keep_alive_s = keep_alive_s
        self.streams: set[Wake] = set()
        self.closing = False
        self._reads: set[anyio.CancelScope] = set()
        self._waiters = threading.BoundedSemaphore(MAX_WAITERS)
        self._uploads = threading.BoundedSemaphore(MAX_UPLOADS)

    def close(self) -> None:
        """End what waits, so that the server can end; called in the event loop."""
        self.closing = True
        for wake in self.streams:
            wake.set()
        for read in self._reads:
            read.cancel()

    @contextmanager
    def reading(self, read: anyio.CancelScope) -> Iterator[None]:
        """Let the end of the server cancel the read of a body in that scope; raises Busy when it has. In the event loop."""
        self.check_open()
        self._reads.add(read)
        try:
            yield
        finally:
            self._reads.discard(read)

    def check_open(self) -> None:
        """Raise Busy once the server was told to end."""
        if self.closing:
            raise Busy("the server is ending; ask again when it is back")

    @contextmanager
    def uploading(self) -> Iterator[None]:
        """Have a place for an upload, which keeps a thread as long as its sender takes; raises Busy when there is none."""
        if not self._uploads.acquire(blocking=False):
            raise Busy(f"{MAX_UPLOADS} images are coming in already")
        try:
            yield
        finally:
            self._uploads.release()

    def wait(
        self, present: P, look: Callable[[float], T], done: Callable[[T], bool], patience: Patience, response: Response
    ) -> P | T:
        """What `look` finds once it is `done`, or as it is when patience or the places to wait end; `present` without a wait.

        `look` is given how many seconds it may wait for a change.
        """
        if patience.wait_s <= 0:
            patience.declare(response)
            return present
        if not self._waiters.acquire(blocking=False):
            return present
        try:
            patience.declare(response)
            return self._wait(look, done, time.monotonic() + patience.wait_s)
        finally:
            self._waiters.release()

    def _wait(self, look: Callable[[float], T], done: Callable[[T], bool], deadline: float) -> T:
        while True:
            left = deadline - time.monotonic()
            found = look(min(LOOK_S, max(left, 0.0)))
            if done(found) or left <= LOOK_S or self.closing:
                return found
