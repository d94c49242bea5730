"""Decides the next step of a machine, and nothing else moves one: first boot, restart after a crash and repair are one path.

Values in, a value out: no I/O, no clock. The converger (loops) records each step, does it, and asks again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from garbi.hyper.drivers.protocol import Condition, Observation
from garbi.hyper.model.machine import REACHED, Awaits, Machine, RestartPolicy, State, Wish
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
    """How far a stop has come. REFUSED: it could not be asked for, and is asked for again when the pause is over."""

    NOT_ASKED = "not-asked"
    REFUSED = "refused"
    ASKED = "asked"
    ASK_AGAIN = "ask-again"
    OVERDUE = "overdue"


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What a decision depends on beside the machine and what is seen of it.

    `taken` is the step that was taken a moment ago, and led to what is seen. `hold` says why the machine may not run now (None:
    it may). `due`: the pause before the next restart, or the next attempt, is over. `rested`: it has run for so long that
    earlier restarts are forgotten. `pauses_s` are the seconds before each restart, and before each repetition of an owed step.
    `unsure`: that nothing is seen of the machine may be so because its engine is in its start.
    """

    stop: Progress = Progress.NOT_ASKED
    taken: Step | None = None
    hold: str | None = None
    due: bool = False
    rested: bool = False
    pauses_s: tuple[float, ...] = RESTART_PAUSES_S
    unsure: bool = False


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
    """Nothing is left to do now: the machine is in `state`, for this reason. `address` is where it was seen, and in which life of
    its engine.

    `awaits` says for what the agent will bring it on by itself; `restarts` is the count from now on (None: as it was), and
    `attempts` that of refused steps.
    """

    state: State
    reason: str = ""
    address: str | None = None
    awaits: Awaits = Awaits.NOTHING
    restarts: int | None = None
    attempts: int = 0
    engine_life: str = ""


@dataclass(frozen=True, slots=True)
class Await:
    """The machine is on its way; an event, or the deadline, will bring it back here."""


@dataclass(frozen=True, slots=True)
class Setback:
    """A step was refused: the machine is in `state`, for this reason, after so many refused `attempts`.

    `settles`: who waits for it is answered, since it is given up, or not repeated at once. `pause_s`: look again after so many
    seconds (None: when what it awaits is due).
    """

    state: State
    reason: str
    awaits: Awaits
    attempts: int
    settles: bool
    pause_s: float | None = None


@dataclass(frozen=True, slots=True)
class WishAgain:
    """The machine was to run, and was ended with its engine, not by itself: it is wished to run once more, for this reason."""

    reason: str


UNDER_WAY = (Progress.ASKED, Progress.ASK_AGAIN)
ON = (Condition.RUNNING, Condition.PAUSED)

Decision = Act | Settle | Await | WishAgain

ENDED_BY_ITSELF = "it ended by itself"
ENDED_WITH_ENGINE = "it ended with its engine, not by itself: it is started again"
DISAPPEARED = "it disappeared: it was deleted outside Garbi"
HELD = "held: "
"""How the reason begins of a machine that may not run now."""

FOUND = "it was found "
"""How the reason begins of a machine that runs, or is paused, and was not wished so: that was done outside Garbi."""

DEEDS = {
    Step.ADD: "make it",
    Step.START: "start it",
    Step.PAUSE: "pause it",
    Step.STOP: "stop it",
    Step.KILL: "power it off",
    Step.KEEP: "keep its disk",
    Step.REMOVE: "remove it",
}
ENDING = (Step.STOP, Step.KILL, Step.KEEP, Step.REMOVE)
"""Steps that are repeated until they succeed, or until something else is wished: nothing is ended by half."""

LONGEST_PAUSE_S = 60.0
"""Seconds between two attempts to remove something, at most."""

LONGEST_STOP_PAUSE_S = 15.0
"""The same between two attempts to stop something or to power it off, which may hurt more."""


def next_step(machine: Machine, seen: Observation | None, now: Circumstances = ORDINARY) -> Decision:
    """Decide what to do about a machine, from its wish, its state and what its driver sees of it (None: nothing)."""
    if seen is None and now.unsure:
        return Await()
    if machine.wish is Wish.REMOVED:
        return _attempted(machine, seen, _toward_removed(machine, seen, now), now)
    if _ended_with_engine(machine, seen):
        return WishAgain(ENDED_WITH_ENGINE)
    if now.hold is not None and seen is not None and seen.condition in ON:
        return Act(Step.KILL, State.STOPPING, HELD + now.hold, Awaits.LEASE)
    if machine.settled and machine.awaits is not Awaits.ATTEMPT:
        return _reflect(machine, seen, now)
    return _attempted(machine, seen, _toward(machine, seen, now), now)


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


def after_refusal(
    machine: Machine, step: Step, seen: Observation | None, cause: str, final: bool, now: Circumstances
) -> Setback:
    """What becomes of a machine a step of which was refused; `seen` is what was seen of it before.

    What ends it is repeated until it is done. Any other step is owed to what was last wished, and repeated after the pauses of
    the budget, unless the refusal is `final` by its nature. A machine that is to run always is never given up otherwise.
    """
    attempts = machine.attempts + 1
    deed = DEEDS[step]
    if step in ENDING or machine.state is State.STOPPING:
        longest = LONGEST_PAUSE_S if machine.wish is Wish.REMOVED else LONGEST_STOP_PAUSE_S
        pause = min(2.0 ** min(attempts - 1, 10), longest)
        reason = f"{cause}; attempt {attempts} to {deed} was refused, again in {pause:g} s"
        return Setback(machine.state, reason, machine.awaits, attempts, machine.wish is Wish.REMOVED, pause)
    state = _off_or(seen)
    if final:
        return Setback(state, cause, Awaits.NOTHING, 0, settles=True)
    allowed, always = len(now.pauses_s) + 1, _never_given_up(machine, now)
    if attempts >= allowed and not always:
        tries = "1 attempt" if attempts == 1 else f"{attempts} attempts"
        return Setback(state, f"{cause}; gave up after {tries} to {deed}", Awaits.NOTHING, 0, settles=True)
    pause = pause_before(attempts, now.pauses_s)
    number = f"{attempts}" if always else f"{attempts} of {allowed}"
    reason = f"{cause}; attempt {number} to {deed} was refused, again {f'in {pause:g} s' if pause else 'now'}"
    return Setback(state, reason, Awaits.ATTEMPT, attempts, settles=machine.settled or pause > 0)


def pause_before(number: int, pauses_s: tuple[float, ...]) -> float:
    """The seconds before the restart, or the repetition, of that number; the last pause goes for all that follow."""
    return pauses_s[min(number, len(pauses_s)) - 1] if pauses_s else 0.0


def _toward(machine: Machine, seen: Observation | None, now: Circumstances) -> Decision:
    if seen is None or seen.condition is Condition.PARTIAL:
        return Act(Step.ADD, State.CREATING)
    if now.hold is not None and machine.wish is not Wish.STOPPED:
        return _held(now.hold)
    decide = {Wish.RUNNING: _toward_running, Wish.STOPPED: _toward_stopped, Wish.PAUSED: _toward_paused}[machine.wish]
    return decide(machine, seen, now)


def _attempted(machine: Machine, seen: Observation | None, decision: Decision, now: Circumstances) -> Decision:
    """The decision, where steps of the machine were refused: an owed step comes after its pause, and says which attempt it is."""
    if machine.attempts == 0 or not isinstance(decision, Act):
        return decision
    if decision.step in ENDING or decision.during is State.STOPPING:
        return replace(decision, reason=machine.reason)
    if machine.pausing and not now.due:
        return replace(_as_it_is(machine), state=_off_or(seen)) if machine.settled else Await()
    number = f"{machine.attempts + 1}"
    if not _never_given_up(machine, now):
        number = f"{number} of {len(now.pauses_s) + 1}"
    cause = _cause_of(machine.reason)
    reason = f"attempt {number} to {DEEDS[decision.step]}{f': {cause}' if cause else ''}"
    return replace(decision, reason=reason, awaits=Awaits.ATTEMPT)


def _off_or(seen: Observation | None) -> State:
    """The state of a machine whose step was refused, by what is seen of it."""
    on = {Condition.RUNNING: State.RUNNING, Condition.PAUSED: State.PAUSED}
    return State.FAILED if seen is None else on.get(seen.condition, State.FAILED)


def _never_given_up(machine: Machine, now: Circumstances) -> bool:
    """Whether a start that is owed is repeated for ever, with the last pause."""
    return machine.restart is RestartPolicy.ALWAYS and machine.wish is Wish.RUNNING and now.pauses_s != ()


def _cause_of(reason: str) -> str:
    """The cause alone, without what was said of the attempts."""
    if reason.startswith("attempt "):
        return reason.partition(": ")[2]
    return reason.rpartition("; attempt ")[0] or reason


def _toward_removed(machine: Machine, seen: Observation | None, now: Circumstances) -> Decision:
    if machine.keep_s == 0 or now.taken is Step.KEEP:
        return Act(Step.REMOVE, State.REMOVING)
    if seen is not None and seen.condition in ON:
        return Act(Step.KILL, State.REMOVING)
    return Act(Step.KEEP, State.REMOVING)  # also when nothing is seen: it may have been kept before a crash


def _toward_running(machine: Machine, seen: Observation, now: Circumstances) -> Decision:
    if seen.condition is Condition.RUNNING:
        # Asked to stop a moment ago, then wished to run: it ends first, unless it turns a deaf ear.
        return Await() if now.stop in UNDER_WAY else _on(State.RUNNING, seen)
    if now.taken is Step.START:
        return _ended(machine, seen, now)
    return Act(Step.START, State.STARTING)


def _toward_stopped(_machine: Machine, seen: Observation, now: Circumstances) -> Decision:
    if seen.condition is Condition.STOPPED:
        return Settle(State.STOPPED)
    if now.stop is Progress.OVERDUE:
        return Act(Step.KILL, State.STOPPING)
    if now.stop is Progress.REFUSED:
        return Await()
    if seen.condition is Condition.PAUSED:  # a frozen machine cannot hear that it is asked to end
        return Act(Step.START, State.STOPPING)
    return Await() if now.stop is Progress.ASKED else Act(Step.STOP, State.STOPPING)


def _toward_paused(machine: Machine, seen: Observation, now: Circumstances) -> Decision:
    if seen.condition is Condition.PAUSED:
        return _on(State.PAUSED, seen)
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
        return _on(state, seen, _why(machine, state), restarts=0 if now.rested else None)
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


def _ended_with_engine(machine: Machine, seen: Observation | None) -> bool:
    """Whether the machine was on when its engine ended, and is off in the next life of it."""
    if machine.wish is Wish.STOPPED or seen is None or seen.condition is not Condition.STOPPED:
        return False
    return "" not in (machine.engine_life, seen.engine_life) and machine.engine_life != seen.engine_life


def _on(state: State, seen: Observation, reason: str = "", restarts: int | None = None) -> Settle:
    return Settle(state, reason, seen.address, restarts=restarts, engine_life=seen.engine_life)


def _held(why: str) -> Settle:
    return Settle(State.STOPPED, HELD + why, awaits=Awaits.LEASE)


def _why(machine: Machine, state: State) -> str:
    """Why a machine of which nothing more is to be done is on: empty where it is as wished."""
    if state is REACHED.get(machine.wish):
        return ""
    return machine.reason if machine.state is state and machine.reason else f"{FOUND}{state}"


def _as_it_is(machine: Machine) -> Settle:
    address = machine.address if machine.state in (State.RUNNING, State.PAUSED) else None
    return Settle(
        machine.state,
        machine.reason,
        address,
        machine.awaits,
        attempts=machine.attempts,
        engine_life=machine.engine_life,
    )


def _ended(machine: Machine, seen: Observation, now: Circumstances) -> Settle:
    return after_end(machine, seen.failure, now)


def _times(number: int) -> str:
    return f"{number} restart" if number == 1 else f"{number} restarts"
