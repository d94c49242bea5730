"""What an audit finds, and the thread that audits again and again, of both services: only what shows twice counts."""

from __future__ import annotations

import logging
import stat
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from garbi.base.token import TOKEN_FILE

log = logging.getLogger(__name__)

CONFIRM_S = 1.0
"""Pause between the two looks of an audit that somebody asked for: what is in motion has moved on by then."""

CONFIRM_REGULAR_S = 5.0
"""The same for the regular one, for which nobody waits."""

FIRST_S = 15.0
"""Pause before the first regular audit, at most: after a start, things have yet to come to rest."""


@dataclass(frozen=True, slots=True)
class Violation:
    """An invariant that does not hold: which, of what, and how it shows. Not `certain`: it could not be checked."""

    invariant: str
    subject: str
    detail: str
    certain: bool = True


Look = Callable[[], Sequence[Violation]]
Tell = Callable[[Sequence[Violation]], None]
"""Writes down the violations that there are now, and who appeared and went since the last time."""


def confirmed(look: Look, pause_s: float, stopped: threading.Event | None = None) -> list[Violation]:
    """What two looks find, `pause_s` seconds apart, as the second one says it; one look is enough when it finds nothing."""
    first = {(each.invariant, each.subject) for each in look()}
    if not first:
        return []
    (stopped or threading.Event()).wait(pause_s)
    return [each for each in look() if (each.invariant, each.subject) in first]


@dataclass(frozen=True, slots=True)
class Audited:
    """The last audit: when it ended, in monotonic seconds, and what it found."""

    at: float
    violations: tuple[Violation, ...]


class Auditing:
    """A thread that looks every `period_s` seconds (0: never) and tells what it found. Can be started and stopped again."""

    def __init__(self, look: Look, tell: Tell, monotonic: Callable[[], float], period_s: float) -> None:
        self._look = look
        self._tell = tell
        self._monotonic = monotonic
        self._period_s = period_s
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self.last: Audited | None = None

    def start(self) -> None:
        """Begin to audit; nothing happens when it has begun, or when the period is 0."""
        if self._period_s > 0 and (self._thread is None or self._stopped.is_set()):
            self._stopped = threading.Event()
            self._thread = threading.Thread(target=self._run, args=(self._stopped,), name="auditing", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Audit no more; what was found is forgotten, since who audits from now on may find otherwise."""
        self._stopped.set()
        self.last = None

    def join(self, patience_s: float) -> None:
        """Wait for the thread, at most `patience_s` seconds."""
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(patience_s)

    def age_s(self) -> float | None:
        """Seconds since the last audit ended; None before the first."""
        last = self.last
        return None if last is None else self._monotonic() - last.at

    def _run(self, stopped: threading.Event) -> None:
        pause = min(self._period_s, FIRST_S)
        while not stopped.wait(pause):
            pause = self._period_s
            try:
                found = confirmed(self._look, min(CONFIRM_REGULAR_S, self._period_s), stopped)
                if stopped.is_set():
                    return
                self.last = Audited(self._monotonic(), tuple(found))
                if stopped.is_set():
                    self.last = None
                    return
                self._tell([each for each in found if each.certain])
            except Exception:  # the loop has to survive what it cannot foresee
                if not stopped.is_set():
                    log.exception("audit failed")


def changes(before: Iterable[Violation], now: Iterable[Violation]) -> tuple[list[Violation], list[Violation]]:
    """The violations that appeared, and those that are gone. One that shows differently is the same."""
    was = {(each.invariant, each.subject): each for each in before}
    are = {(each.invariant, each.subject): each for each in now}
    return [are[key] for key in are.keys() - was.keys()], [was[key] for key in was.keys() - are.keys()]


def readable_secrets(data_dir: Path, names: Sequence[str] = (TOKEN_FILE,)) -> Iterator[Violation]:
    """I14, as far as a service can check it of itself: nobody else reads its secrets."""
    for name in names:
        path = data_dir / name
        try:
            mode = path.stat().st_mode
        except FileNotFoundError:
            continue
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            yield Violation("I14", name, f"others may read or write {path}: its mode is {stat.filemode(mode)}")
