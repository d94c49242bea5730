"""Decides the next step of a machine, and nothing else moves one: first boot, restart after a crash and repair are one path.

Values in, a value out: no I/O, no clock. The converger (loops) records each step, does it, and asks again.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from garbi.hyper.drivers.protocol import Condition, Observation
from garbi.hyper.model.machine import Machine, State, Wish


class Step(StrEnum):
    """One thing to be done to a machine through its driver; every step may be repeated."""

    ADD = "add"
    START = "start"
    PAUSE = "pause"
    STOP = "stop"
    KILL = "kill"
    REMOVE = "remove"


class Progress(StrEnum):
    """How far a stop has come."""

    NOT_ASKED = "not-asked"
    ASKED = "asked"
    ASK_AGAIN = "ask-again"
    OVERDUE = "overdue"


@dataclass(frozen=True, slots=True)
class Act:
    """Take `step`; while it is being done the machine's state is `during`."""

    step: Step
    during: State


@dataclass(frozen=True, slots=True)
class Settle:
    """Nothing is left to do: the machine is in `state`, for this reason. `address` is where it was seen."""

    state: State
    reason: str = ""
    address: str | None = None


@dataclass(frozen=True, slots=True)
class Await:
    """The machine is on its way; an event, or the deadline, will bring it back here."""


UNDER_WAY = (Progress.ASKED, Progress.ASK_AGAIN)

Decision = Act | Settle | Await

ENDED_BY_ITSELF = "it ended by itself"
DISAPPEARED = "it disappeared: it was deleted outside Garbi"


def next_step(machine: Machine, seen: Observation | None, stop: Progress = Progress.NOT_ASKED) -> Decision:
    """Decide what to do about a machine, from its wish, its state and what its driver sees of it (None: nothing)."""
    if machine.wish is Wish.REMOVED:
        return Act(Step.REMOVE, State.REMOVING)
    if machine.settled:
        return _reflect(machine, seen)
    if seen is None or seen.condition is Condition.PARTIAL:
        return Act(Step.ADD, State.CREATING)
    decide = {Wish.RUNNING: _toward_running, Wish.STOPPED: _toward_stopped, Wish.PAUSED: _toward_paused}[machine.wish]
    return decide(seen, stop)


def _toward_running(seen: Observation, stop: Progress) -> Decision:
    if seen.condition is Condition.RUNNING:
        # Asked to stop a moment ago, then wished to run: it ends first, unless it turns a deaf ear.
        return Await() if stop in UNDER_WAY else Settle(State.RUNNING, address=seen.address)
    return Act(Step.START, State.STARTING)


def _toward_stopped(seen: Observation, stop: Progress) -> Decision:
    if seen.condition is Condition.STOPPED:
        return Settle(State.STOPPED)
    if stop is Progress.OVERDUE:
        return Act(Step.KILL, State.STOPPING)
    if seen.condition is Condition.PAUSED:  # a frozen machine cannot hear that it is asked to end
        return Act(Step.START, State.STOPPING)
    return Await() if stop is Progress.ASKED else Act(Step.STOP, State.STOPPING)


def _toward_paused(seen: Observation, _stop: Progress) -> Decision:
    if seen.condition is Condition.PAUSED:
        return Settle(State.PAUSED, address=seen.address)
    if seen.condition is Condition.RUNNING:
        return Act(Step.PAUSE, State.RUNNING)
    return _ended(seen)


def _reflect(machine: Machine, seen: Observation | None) -> Decision:
    """The state of a machine of which nothing more is wished: what is seen of it."""
    if seen is None or seen.condition is Condition.PARTIAL:
        if machine.state is State.FAILED:
            return Settle(State.FAILED, machine.reason)
        return Settle(State.FAILED, DISAPPEARED)
    if seen.condition is Condition.RUNNING:
        return Settle(State.RUNNING, address=seen.address)
    if seen.condition is Condition.PAUSED:
        return Settle(State.PAUSED, address=seen.address)
    if machine.state in (State.FAILED, State.STOPPED):
        return Settle(machine.state, machine.reason)
    return Settle(State.STOPPED) if machine.wish is Wish.STOPPED else _ended(seen)


def _ended(seen: Observation) -> Settle:
    return Settle(State.FAILED, seen.failure) if seen.failure else Settle(State.STOPPED, ENDED_BY_ITSELF)
