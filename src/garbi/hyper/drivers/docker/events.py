"""The engine's own events, as they come, in one thread: which of our machines changed."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator
from typing import Any

from docker.types import CancellableStream

from garbi.base.clock import Clock
from garbi.base.errors import DriverUnavailable, GarbiError
from garbi.hyper.drivers.docker.containers import MACHINE_LABEL, Marks
from garbi.hyper.drivers.docker.engine import HELLO_TIMEOUT_S, Engine
from garbi.hyper.drivers.docker.notes import Notes
from garbi.hyper.drivers.protocol import Notify

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0
OVERLAP_S = 2
"""The engine subscribes a moment after it has answered; what happened shortly before is told again, to lose nothing."""

KINDS = ("create", "start", "die", "pause", "unpause", "destroy")

_log = logging.getLogger(__name__)


class EventWatch:
    """Reports until it is closed; connects again by itself, with growing pauses.

    When it has lost the engine, and when it has found it again, it says that anything may be new.
    """

    def __init__(self, engine: Engine, marks: Marks, notes: Notes, notify: Notify, clock: Clock) -> None:
        self._engine = engine
        self._marks = marks
        self._notes = notes
        self._notify = notify
        self._clock = clock
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._stream: CancellableStream[Any] | None = None
        self._thread = threading.Thread(target=self._run, name="docker-events", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """End the thread, which waits in a read, by closing its connection."""
        self._closing.set()
        with self._lock:
            _cut(self._stream)
        if self._thread is not threading.current_thread():
            self._thread.join(2 * HELLO_TIMEOUT_S)  # it may be saying hello to an engine that hangs

    def _run(self) -> None:
        pause = FIRST_PAUSE_S
        while not self._closing.is_set():
            try:
                with self._subscribed() as events:
                    pause = FIRST_PAUSE_S
                    self._tell(None)
                    self._follow(events)
            except GarbiError as error:
                _log.info("no events from Docker Engine: %s", error.detail)
            self._closing.wait(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)

    def _follow(self, events: CancellableStream[Any]) -> None:
        try:
            for event in events:
                self._report(event)
        finally:
            self._tell(None)

    @contextlib.contextmanager
    def _subscribed(self) -> Iterator[CancellableStream[Any]]:
        filters = {**self._marks.filters, "type": ["container"], "event": list(KINDS)}
        since = int(self._clock.now().timestamp()) - OVERLAP_S
        with self._engine.talk_alone(HELLO_TIMEOUT_S) as client:
            stream = client.events(since=since, filters=filters, decode=True)
            with self._lock:
                self._stream = stream
                if self._closing.is_set():
                    _cut(stream)
            try:
                yield stream
            finally:
                with self._lock:
                    self._stream = None
                    _cut(stream)

    def _report(self, event: Any) -> None:
        actor = event.get("Actor", {})
        attributes = actor.get("Attributes", {})
        # By id or by name, whichever it is: who is told of another's change looks, and finds nothing new.
        labelled = str(attributes.get(MACHINE_LABEL, ""))
        named = self._marks.machine_of(attributes.get("name", ""), attributes)
        if named is not None or (labelled and self._notes.of(labelled) == actor.get("ID")):
            self._tell(labelled)

    def _tell(self, machine_id: str | None) -> None:
        if self._closing.is_set():
            return
        try:
            self._notify(machine_id)
        except Exception:  # whatever the listener does, the next change must still be reported
            _log.exception("reporting a change of machine %s failed", machine_id)


def _cut(stream: CancellableStream[Any] | None) -> None:
    """Close the connection under a stream; one that has ended by itself has none any more."""
    if stream is not None:
        with contextlib.suppress(OSError, AttributeError, DriverUnavailable):
            stream.close()
