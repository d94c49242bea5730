"""How far the stops have come that were asked for: machines that turn a deaf ear are asked again, and powered off in the end.

Nothing of it is written down: after a restart of the agent the patience with a machine begins anew.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from garbi.base.clock import Clock
from garbi.hyper.converge import Progress


@dataclass(slots=True)
class _Stop:
    """When patience ends, and when it is asked for again, in monotonic seconds; whether it was ever heard."""

    deadline: float
    again: float = math.inf
    heard: bool = False


class Stops:
    """The stops under way, by the machine's id. A machine has `deadline_s` seconds to end after it was first asked."""

    def __init__(self, clock: Clock, deadline_s: float) -> None:
        self._clock = clock
        self._deadline_s = deadline_s
        self._stops: dict[str, _Stop] = {}

    def expect(self, machine_id: str) -> float:
        """Wait for the end of a machine that another agent asked; returns the seconds after which to look again."""
        self._stops[machine_id] = _Stop(self._clock.monotonic() + self._deadline_s, heard=True)
        return self._deadline_s

    def ask(self, machine_id: str, repeat_s: float | None) -> float:
        """Note that a machine is asked to end, again after `repeat_s`; returns the seconds after which to look again."""
        now = self._clock.monotonic()
        stop = self._stops.setdefault(machine_id, _Stop(now + self._deadline_s))
        stop.again = math.inf if repeat_s is None else now + repeat_s
        return min(stop.again, stop.deadline) - now

    def hear(self, machine_id: str) -> None:
        """Note that the request reached the machine, or its daemon."""
        self._stops[machine_id].heard = True

    def refuse(self, machine_id: str, pause_s: float) -> float:
        """Note that a machine could not be asked to end, and is asked again after that pause; its deadline runs all the same.

        Returns the seconds after which to look again.
        """
        now = self._clock.monotonic()
        stop = self._stops.setdefault(machine_id, _Stop(now + self._deadline_s))
        stop.again = now + pause_s
        return min(pause_s, stop.deadline - now) if now < stop.deadline else pause_s

    def progress(self, machine_id: str) -> Progress:
        """How far the stop of a machine has come."""
        stop = self._stops.get(machine_id)
        if stop is None:
            return Progress.NOT_ASKED
        now = self._clock.monotonic()
        if now >= stop.deadline:
            return Progress.OVERDUE
        if not stop.heard:
            return Progress.NOT_ASKED if now >= stop.again else Progress.REFUSED
        return Progress.ASK_AGAIN if now >= stop.again else Progress.ASKED

    def forget(self, machine_id: str) -> None:
        """The machine has ended, or may run on."""
        self._stops.pop(machine_id, None)
