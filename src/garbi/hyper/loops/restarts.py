"""When a machine that failed is started again, and when its earlier restarts are forgotten: times for `converge` to decide on.

The count is in the machine's row. The times are not: a pause that an agent did not see the end of is begun anew by the next.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from garbi.base.clock import Clock
from garbi.base.tally import Tally
from garbi.hyper.model.machine import Awaits, Machine, State
from garbi.hyper_api.vocabulary import RESTART_PAUSES_S, RESTARTS_FORGOTTEN_AFTER_S

BEGUN = "machine_restarts"
"""The name under which restarts are counted, by the type of machine."""


@dataclass(frozen=True, slots=True)
class RestartTimes:
    """Seconds before each restart of a machine, and how long it has to run for its restarts to be forgotten."""

    pauses_s: tuple[float, ...] = RESTART_PAUSES_S
    forgotten_after_s: float = RESTARTS_FORGOTTEN_AFTER_S


class Restarts:
    """The pauses and runs under way, in monotonic seconds. `look_later` has a machine looked at after so many seconds."""

    def __init__(
        self, clock: Clock, times: RestartTimes, look_later: Callable[[Machine, float], None], tally: Tally
    ) -> None:
        self.times = times
        self._clock = clock
        self._look_later = look_later
        self._lock = threading.Lock()
        self._pauses: dict[str, tuple[int, float]] = {}
        self._runs: dict[str, float] = {}
        self._tally = tally

    def due(self, machine: Machine) -> bool:
        """Whether the pause before the machine's next restart is over; it begins when it is first asked for."""
        if machine.awaits is not Awaits.RESTART or machine.state is not State.FAILED:
            self._pauses.pop(machine.id, None)
            return False
        now = self._clock.monotonic()
        with self._lock:
            number, end = self._pauses.get(machine.id, (-1, 0.0))
            if number == machine.restarts:
                return now >= end
            pause = self._pause_of(machine)
            self._pauses[machine.id] = (machine.restarts, now + pause)
        self._look_later(machine, pause)
        return pause <= 0

    def rested(self, machine: Machine, runs: bool) -> bool:
        """Whether the machine has run for so long since it was started again that this is forgotten; `runs`: it does now."""
        if machine.restarts == 0 or machine.awaits is not Awaits.NOTHING:
            self._runs.pop(machine.id, None)
            return False
        now, after = self._clock.monotonic(), self.times.forgotten_after_s
        with self._lock:
            since = self._runs.get(machine.id)
            begins = since is None and runs
            if begins:
                self._runs[machine.id] = now
        if begins:
            self._look_later(machine, after)
        return since is not None and now - since >= after

    def begin(self, machine: Machine) -> None:
        """Let the pause of a machine begin that has failed, or the run of one that was started again."""
        self.due(machine)
        self.rested(machine, machine.state is State.RUNNING)

    def count(self, machine: Machine) -> None:
        """Note that a restart of the machine begins."""
        self._tally.count(BEGUN, machine.type)

    def forget(self, machine_id: str) -> None:
        """The machine is gone."""
        self._pauses.pop(machine_id, None)
        self._runs.pop(machine_id, None)

    def _pause_of(self, machine: Machine) -> float:
        pauses = self.times.pauses_s
        return pauses[machine.restarts] if machine.restarts < len(pauses) else 0.0
