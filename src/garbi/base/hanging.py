"""Looks at what may hang, as a disk does that neither answers nor fails, without hanging with it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Generic, TypeVar

from garbi.base.errors import StorageFailed

T = TypeVar("T")


class PatientDisk:
    """The disk of one directory, as far as it answers. For many threads."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._lock = threading.Lock()
        self._hanging = 0

    def within(self, limit_s: float, work: Callable[[], T]) -> T:
        """What `work` returns or raises, which reads or writes there; it is done in a thread of its own.

        Raises StorageFailed when that takes longer than `limit_s` seconds, and at once while earlier work hangs.
        """
        if not self._hanging:
            attempt = _Attempt(work)
            if attempt.done.wait(limit_s) or not self._note_late(attempt):
                return attempt.outcome()
        raise StorageFailed(f"the disk of {self._place} does not answer")

    def _note_late(self, attempt: _Attempt[T]) -> bool:
        with self._lock:
            late = attempt.is_late(self._note_done)
            self._hanging += late
        return late

    def _note_done(self) -> None:
        with self._lock:
            self._hanging -= 1


class _Attempt(Generic[T]):
    """One piece of work in its thread, which is left alone when it takes too long."""

    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work
        self.done = threading.Event()
        self._lock = threading.Lock()
        self._returned: list[T] = []
        self._error: BaseException | None = None
        self._on_done: Callable[[], None] | None = None
        self._thread = threading.Thread(target=self._run, name="disk", daemon=True)
        self._thread.start()

    def is_late(self, on_done: Callable[[], None]) -> bool:
        """Whether it is not done now; if so, `on_done` is called once it is."""
        with self._lock:
            if self.done.is_set():
                return False
            self._on_done = on_done
            return True

    def outcome(self) -> T:
        """What the work came to, once it is done."""
        self._thread.join()  # it ends now; the end of the process must not meet it half-way
        if self._error is not None:
            raise self._error
        return self._returned[0]

    def _run(self) -> None:
        try:
            self._returned.append(self._work())
        except BaseException as error:
            self._error = error
        with self._lock:
            self.done.set()
        if self._on_done is not None:
            self._on_done()


@cache
def disk_of(place: Path) -> PatientDisk:
    """The one of this process for a directory."""
    return PatientDisk(place)
