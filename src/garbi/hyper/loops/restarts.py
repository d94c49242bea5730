"""When a machine that failed is started again, or a refused step repeated, and when earlier restarts are forgotten.

These are times for `converge` to decide on. The counts are in the machine's row. The times are not: a pause that an agent did
not see the end of is begun anew by the next.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from garbi.base.clock import Clock
from garbi.base.tally import Tally
from garbi.hyper.converge import Step, pause_before
from garbi.hyper.model.machine import Awaits, Machine, State
from garbi.hyper_api.vocabulary import RESTART_PAUSES_S, RESTARTS_FORGOTTEN_AFTER_S

BEGUN = "machine_restarts"
"""The name under which restarts are counted, by the type of machine."""

REFUSED = "refused_steps"
"""The name under which refused steps are counted, by the type of machine and the step."""


@dataclass(frozen=True, slots=True)
class RestartTimes:
    """Seconds before each restart of a machine, and how long it has to run for its restarts to be forgotten."""

    pauses_s: tuple[float, ...] = RESTART_PAUSES_S
    forgotten_after_s: float = RESTARTS_FORGOTTEN_AFTER_S


@dataclass(frozen=True, slots=True)
class Pause:
    """The pause before the restart, or the repetition, of that number, for what was last wished of a machine."""

    awaits: Awaits
    number: int
    generation: int


class Restarts:
    """The pauses and runs under way, in monotonic seconds. `look_later` has a machine looked at after so many seconds."""

    def __init__(
        self, clock: Clock, times: RestartTimes, look_later: Callable[[Machine, float], None], tally: Tally
    ) -> None:
        self.times = times
        self._clock = clock
        self._look_later = look_later
        self._lock = threading.Lock()
        self._pauses: dict[str, tuple[Pause, float]] = {}
        self._runs: dict[str, float] = {}
        self._tally = tally

    def due(self, machine: Machine) -> bool:
        """Whether the pause before the machine's next restart, or attempt, is over; it begins when it is first asked for."""
        wanted = _pause_of(machine)
        if wanted is None:
            self._pauses.pop(machine.id, None)
            return False
        now = self._clock.monotonic()
        with self._lock:
            known, end = self._pauses.get(machine.id, (None, 0.0))
            if known == wanted:
                return now >= end
            pause = self._seconds(wanted)
            self._pauses[machine.id] = (wanted, now + pause)
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

    def refused(self, machine: Machine, step: Step) -> None:
        """Note that a step of the machine was refused."""
        self._tally.count(REFUSED, machine.type, step.value)

    def forget(self, machine_id: str) -> None:
        """The machine is gone."""
        self._pauses.pop(machine_id, None)
        self._runs.pop(machine_id, None)

    def _seconds(self, pause: Pause) -> float:
        if pause.awaits is Awaits.ATTEMPT:
            return pause_before(pause.number, self.times.pauses_s)
        return pause_before(pause.number, self.times.pauses_s) if pause.number <= len(self.times.pauses_s) else 0.0


def _pause_of(machine: Machine) -> Pause | None:
    """The pause in which a machine is; None when it is in none."""
    if machine.awaits is Awaits.RESTART and machine.state is State.FAILED:
        return Pause(machine.awaits, machine.restarts + 1, machine.generation)
    if machine.pausing:
        return Pause(machine.awaits, machine.attempts, machine.generation)
    return None
