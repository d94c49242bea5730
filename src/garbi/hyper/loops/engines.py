"""What is remembered of the engines behind the drivers: when each was missed, what ended a moment before, what it does not list.

An engine that ends takes its machines along, and one that starts may answer before it knows all of them. Neither is the machines'
doing, so nothing is concluded from a single look. All times are monotonic seconds, and of this agent: nothing is written down.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from garbi.base.clock import Clock
from garbi.hyper.drivers.protocol import Observation
from garbi.hyper.model.machine import Machine, State, Wish

MOMENT_S = 5.0
"""What ended so shortly before its engine was missed is taken to have ended with it."""
CONFIRM_S = 1.5
"""After an end, the engine is asked once more so soon whether it is still there."""

HOST_ENDS_S = 5.0
"""An end while the host goes down is looked at again so much later, if the agent is still there."""

ABSENT_S = 1.0
ABSENT_AT_START_S = 5.0
ABSENT_AFTER_LOSS_S = 10.0
"""For so long nothing must have been seen of a machine that was made: usually; of a young agent; after its engine was away."""

_NOT_MADE = (State.PENDING, State.CREATING)
_OFF = (State.STOPPED, State.FAILED)


class Engines:
    """The memory of one agent. `look_later` has a machine looked at after so many seconds; `host_ends`: the host goes down."""

    def __init__(
        self, clock: Clock, look_later: Callable[[Machine, float], None], host_ends: Callable[[], bool]
    ) -> None:
        self._clock = clock
        self._look_later = look_later
        self._host_ends = host_ends
        self._began = clock.monotonic()
        self._lock = threading.Lock()
        self._missed: dict[str, float] = {}
        self._ends: dict[str, tuple[float, Machine]] = {}
        self._absent: dict[str, tuple[float, float]] = {}

    def accepts(self, before: Machine, after: Machine) -> bool:
        """Whether what was found out of a machine is to be written down.

        It may have ended, as far as can be seen by itself, although it was to run. While its host goes down that is the host's
        doing: it stays as it was until the next boot.
        """
        was_on = before.wish in (Wish.RUNNING, Wish.PAUSED) and before.state not in _OFF
        if was_on and after.state in _OFF:
            if self._host_ends():
                self._look_later(before, HOST_ENDS_S)
                return False
            with self._lock:
                now = self._clock.monotonic()
                self._ends = {key: end for key, end in self._ends.items() if now - end[0] <= MOMENT_S}
                self._ends[before.id] = (now, before)
            self._look_later(before, CONFIRM_S)
        return True

    def note_loss(self, type_name: str) -> list[Machine]:
        """The engine of this type does not answer; returns the machines that ended a moment ago, each as it was before."""
        now = self._clock.monotonic()
        with self._lock:
            self._missed[type_name] = now
            ended = [
                machine for at, machine in self._ends.values() if machine.type == type_name and now - at <= MOMENT_S
            ]
            self._ends = {key: end for key, end in self._ends.items() if end[1].type != type_name}
        return ended

    def unsure_of(self, machine: Machine, seen: Observation | None) -> bool:
        """Whether it has yet to be seen that nothing is there of a machine; then it is looked at again in time."""
        if seen is not None or machine.state in _NOT_MADE:
            self._absent.pop(machine.id, None)
            return False
        now = self._clock.monotonic()
        with self._lock:
            since, planned = self._absent.get(machine.id, (now, now))
            sure_at = since + self._needed_s(machine, now)
            self._absent[machine.id] = (since, max(planned, sure_at))
            if sure_at <= now and machine.wish is Wish.REMOVED:
                del self._absent[machine.id]
        if sure_at > now >= planned:
            self._look_later(machine, sure_at - now)
        return sure_at > now

    def _needed_s(self, machine: Machine, now: float) -> float:
        missed = self._missed.get(machine.type)
        if missed is not None and now - missed < ABSENT_AFTER_LOSS_S:
            return ABSENT_AFTER_LOSS_S
        young = now - self._began < ABSENT_AT_START_S and machine.wish is not Wish.REMOVED
        return ABSENT_AT_START_S if young else ABSENT_S
