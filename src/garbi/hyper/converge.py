"""Decides the next step of a machine, and nothing else moves one: first boot, restart after a crash and repair are one path.

Values in, a value out: no I/O, no clock. The converger (loops) records each step, does it, and asks again.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from garbi.hyper.drivers.protocol import Condition, Observation
from garbi.hyper.model.machine import Awaits, Machine, RestartPolicy, State, Wish
from garbi.hyper_api.vocabulary import RESTART_PAUSES_S


class Step(StrEnum):
    """One thing to be done to a machine through its driver; every step may be repeated."""

    ADD = "add"
    START = "start"
    PAUSE = "pause"
    STOP = "stop"
    KILL = "kill"
    KEEP = "keep"
    REMOVE = "remove"


class Progress(StrEnum):
    """How far a stop has come."""

    NOT_ASKED = "not-asked"
    ASKED = "asked"
    ASK_AGAIN = "ask-again"
    OVERDUE = "overdue"


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What a decision depends on beside the machine and what is seen of it.

    `taken` is the step that was taken a moment ago, and led to what is seen. `hold` says why the machine may not run now (None:
    it may). `due`: the pause before the next restart is over. `rested`: it has run for so long that earlier restarts are
    forgotten. `pauses_s` are the seconds before each restart.
    """

    stop: Progress = Progress.NOT_ASKED
    taken: Step | None = None
    hold: str | None = None
    due: bool = False
    rested: bool = False
    pauses_s: tuple[float, ...] = RESTART_PAUSES_S


ORDINARY = Circumstances()


@dataclass(frozen=True, slots=True)
class Act:
    """Take `step`; while it is being done the machine's state is `during`, for this reason.

    The agent means to do what `awaits` says until it is done. `restarts` is the count with this step (None: as it was).
    """

    step: Step
    during: State
    reason: str = ""
    awaits: Awaits = Awaits.NOTHING
    restarts: int | None = None


@dataclass(frozen=True, slots=True)
class Settle:
    """Nothing is left to do now: the machine is in `state`, for this reason. `address` is where it was seen.

    `awaits` says for what the agent will start it by itself; `restarts` is the count from now on (None: as it was).
    """

    state: State
    reason: str = ""
    address: str | None = None
    awaits: Awaits = Awaits.NOTHING
    restarts: int | None = None


@dataclass(frozen=True, slots=True)
class Await:
    """The machine is on its way; an event, or the deadline, will bring it back here."""


UNDER_WAY = (Progress.ASKED, Progress.ASK_AGAIN)
ON = (Condition.RUNNING, Condition.PAUSED)

Decision = Act | Settle | Await

ENDED_BY_ITSELF = "it ended by itself"
DISAPPEARED = "it disappeared: it was deleted outside Garbi"
HELD = "held: "
"""How the reason begins of a machine that may not run now."""


def next_step(machine: Machine, seen: Observation | None, now: Circumstances = ORDINARY) -> Decision:
    """Decide what to do about a machine, from its wish, its state and what its driver sees of it (None: nothing)."""
    if machine.wish is Wish.REMOVED:
        return _toward_removed(machine, seen, now)
    if now.hold is not None and seen is not None and seen.condition in ON:
        return Act(Step.KILL, State.STOPPING, HELD + now.hold, Awaits.LEASE)
    if machine.settled:
        return _reflect(machine, seen, now)
    if seen is None or seen.condition is Condition.PARTIAL:
        return Act(Step.ADD, State.CREATING)
    if now.hold is not None and machine.wish is not Wish.STOPPED:
        return _held(now.hold)
    decide = {Wish.RUNNING: _toward_running, Wish.STOPPED: _toward_stopped, Wish.PAUSED: _toward_paused}[machine.wish]
    return decide(machine, seen, now)


def after_end(machine: Machine, cause: str, now: Circumstances) -> Settle:
    """What becomes of a machine that was to run and does not: given up, or started again after a pause, by its policy.

    `cause` is empty when it ended in order.
    """
    policy = machine.restart
    wanted = policy is RestartPolicy.ALWAYS or (policy is RestartPolicy.ON_FAILURE and cause != "")
    spent, allowed = 0 if now.rested else machine.restarts, len(now.pauses_s)
    if machine.wish is not Wish.RUNNING or not wanted or allowed == 0:
        return Settle(State.FAILED, cause) if cause else Settle(State.STOPPED, ENDED_BY_ITSELF)
    why = cause or ENDED_BY_ITSELF
    if spent >= allowed:
        return Settle(State.FAILED, f"{why}; gave up after {_times(allowed)}")
    pause = now.pauses_s[spent]
    when = f"in {pause:g} s" if pause else "now"
    return Settle(
        State.FAILED, f"{why}; restart {spent + 1} of {allowed} {when}", awaits=Awaits.RESTART, restarts=spent
    )


def _toward_removed(machine: Machine, seen: Observation | None, now: Circumstances) -> Decision:
    if machine.keep_s == 0 or now.taken is Step.KEEP:
        return Act(Step.REMOVE, State.REMOVING)
    if seen is not None and seen.condition in ON:
        return Act(Step.KILL, State.REMOVING)
    return Act(Step.KEEP, State.REMOVING)  # also when nothing is seen: it may have been kept before a crash


def _toward_running(machine: Machine, seen: Observation, now: Circumstances) -> Decision:
    if seen.condition is Condition.RUNNING:
        # Asked to stop a moment ago, then wished to run: it ends first, unless it turns a deaf ear.
        return Await() if now.stop in UNDER_WAY else Settle(State.RUNNING, address=seen.address)
    if now.taken is Step.START:
        return _ended(machine, seen, now)
    return Act(Step.START, State.STARTING)


def _toward_stopped(_machine: Machine, seen: Observation, now: Circumstances) -> Decision:
    if seen.condition is Condition.STOPPED:
        return Settle(State.STOPPED)
    if now.stop is Progress.OVERDUE:
        return Act(Step.KILL, State.STOPPING)
    if seen.condition is Condition.PAUSED:  # a frozen machine cannot hear that it is asked to end
        return Act(Step.START, State.STOPPING)
    return Await() if now.stop is Progress.ASKED else Act(Step.STOP, State.STOPPING)


def _toward_paused(machine: Machine, seen: Observation, now: Circumstances) -> Decision:
    if seen.condition is Condition.PAUSED:
        return Settle(State.PAUSED, address=seen.address)
    if seen.condition is Condition.RUNNING:
        return Act(Step.PAUSE, State.RUNNING)
    return _ended(machine, seen, now)


def _reflect(machine: Machine, seen: Observation | None, now: Circumstances) -> Decision:
    """What is seen of a machine of which nothing more is wished; it may be one that the agent starts by itself."""
    if seen is None or seen.condition is Condition.PARTIAL:
        lost = machine.state is not State.FAILED or machine.awaits is not Awaits.NOTHING
        return Settle(State.FAILED, DISAPPEARED) if lost else _as_it_is(machine)
    if seen.condition in ON:
        state = State.RUNNING if seen.condition is Condition.RUNNING else State.PAUSED
        return Settle(state, address=seen.address, restarts=0 if now.rested else None)
    if machine.awaits is Awaits.NOTHING and machine.state in (State.FAILED, State.STOPPED):
        return _as_it_is(machine)
    return Settle(State.STOPPED) if machine.wish is Wish.STOPPED else _reflect_end(machine, seen, now)


def _reflect_end(machine: Machine, seen: Observation, now: Circumstances) -> Decision:
    """What to do about a machine that was running, or that the agent is about to start, and that does not run."""
    if now.hold is not None:
        return _held(now.hold)
    if now.taken is Step.START or machine.awaits is Awaits.NOTHING:
        return _ended(machine, seen, now)
    if machine.awaits is Awaits.LEASE:
        return Act(Step.START, State.STARTING, awaits=Awaits.LEASE)
    return _toward_restart(machine, now)


def _toward_restart(machine: Machine, now: Circumstances) -> Decision:
    allowed = len(now.pauses_s)
    if machine.state is not State.FAILED:  # a restart was begun and interrupted, by a crash or an absence of the driver
        return Act(Step.START, State.STARTING, machine.reason, Awaits.RESTART)
    cause = machine.reason.rpartition("; restart ")[0] or machine.reason
    if machine.restarts >= allowed:  # fewer are allowed than when it failed
        return after_end(machine, cause, now)
    if not now.due:
        return _as_it_is(machine)
    number = machine.restarts + 1
    return Act(Step.START, State.STARTING, f"restart {number} of {allowed}: {cause}", Awaits.RESTART, number)


def _held(why: str) -> Settle:
    return Settle(State.STOPPED, HELD + why, awaits=Awaits.LEASE)


def _as_it_is(machine: Machine) -> Settle:
    return Settle(machine.state, machine.reason, awaits=machine.awaits)


def _ended(machine: Machine, seen: Observation, now: Circumstances) -> Settle:
    return after_end(machine, seen.failure, now)


def _times(number: int) -> str:
    return f"{number} restart" if number == 1 else f"{number} restarts"
