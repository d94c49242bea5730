"""A step that is refused is owed: it is repeated after the pauses of its budget, said to be, and given up only for a reason."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.test_converge import ENDED, MACHINE, RAN, RUNNING, holds, seen_as, wishes

from garbi.base.errors import (
    AbilityMissing,
    AlreadyExists,
    Conflict,
    DriverFailed,
    GarbiError,
    ImageRejected,
    NoSpace,
    NotFound,
    PortTaken,
    UnknownImage,
)
from garbi.hyper.converge import Act, Await, Circumstances, Progress, Setback, Settle, Step, after_refusal, next_step
from garbi.hyper.drivers.protocol import Condition, Observation
from garbi.hyper.loops.refusals import is_final
from garbi.hyper.model.machine import Awaits, Machine, RestartPolicy, State, Wish

CAUSE = "the engine is not in the mood"
DUE = Circumstances(due=True)


def begun(machine: Machine, act: Act) -> Machine:
    return replace(machine, state=act.during, reason=act.reason, awaits=act.awaits)


def set_back(machine: Machine, setback: Setback) -> Machine:
    """The row after a refusal."""
    after = replace(
        machine,
        state=setback.state,
        reason=setback.reason,
        awaits=setback.awaits,
        attempts=setback.attempts,
        settled_generation=machine.generation if setback.settles else machine.settled_generation,
    )
    assert not after.unexplained
    return after


def refusals(
    machine: Machine, seen: Observation | None, now: Circumstances, most: int
) -> Iterator[tuple[str, Machine]]:
    """Every step of a machine is refused: the reason during each attempt, and the row after it, until it is given up."""
    for _ in range(most):
        decision = next_step(machine, seen, now)
        if not isinstance(decision, Act):
            return
        machine = begun(machine, decision)
        machine = set_back(machine, after_refusal(machine, decision.step, seen, CAUSE, final=False, now=now))
        yield decision.reason, machine


OWED: dict[str, tuple[Machine, Observation | None, str, State]] = {
    "create": (MACHINE, None, "make it", State.FAILED),
    "create, not to run": (replace(MACHINE, wish=Wish.STOPPED), None, "make it", State.FAILED),
    "wish": (replace(MACHINE, state=State.STOPPED), ENDED, "start it", State.FAILED),
    "boot": (replace(RAN, generation=2), ENDED, "start it", State.FAILED),
    "resume": (replace(MACHINE, state=State.PAUSED), seen_as(Condition.PAUSED), "start it", State.PAUSED),
    "pause": (replace(MACHINE, wish=Wish.PAUSED, state=State.RUNNING), RUNNING, "pause it", State.RUNNING),
    "lease": (replace(RAN, state=State.STOPPED, awaits=Awaits.LEASE), ENDED, "start it", State.FAILED),
}


@pytest.mark.parametrize("policy", [RestartPolicy.NO, RestartPolicy.ON_FAILURE])
@pytest.mark.parametrize("name", OWED)
def test_an_owed_step_is_repeated_after_growing_pauses_and_says_so_whatever_the_policy(
    name: str, policy: RestartPolicy
) -> None:
    machine, seen, deed, state = OWED[name]
    told = list(refusals(replace(machine, restart=policy), seen, DUE, 9))
    assert [row.reason for _, row in told] == [
        f"{CAUSE}; attempt 1 of 6 to {deed} was refused, again now",
        f"{CAUSE}; attempt 2 of 6 to {deed} was refused, again in 10 s",
        f"{CAUSE}; attempt 3 of 6 to {deed} was refused, again in 30 s",
        f"{CAUSE}; attempt 4 of 6 to {deed} was refused, again in 60 s",
        f"{CAUSE}; attempt 5 of 6 to {deed} was refused, again in 120 s",
        f"{CAUSE}; gave up after 6 attempts to {deed}",
    ]
    assert [reason for reason, _ in told][1:] == [f"attempt {number} of 6 to {deed}: {CAUSE}" for number in range(2, 7)]
    assert {row.state for _, row in told} == {state}
    assert [row.awaits for _, row in told] == [*[Awaits.ATTEMPT] * 5, Awaits.NOTHING]
    given_up = told[-1][1]
    assert given_up.settled
    assert given_up.attempts == 0
    rest = next_step(given_up, seen)
    assert isinstance(rest, Settle)
    assert (rest.state, rest.reason, rest.awaits) == (state, given_up.reason, Awaits.NOTHING)


def test_who_waits_is_answered_as_soon_as_there_is_a_pause() -> None:
    (_, first), (_, second) = refusals(replace(MACHINE, state=State.STOPPED), ENDED, DUE, 2)
    assert not first.settled
    assert second.settled


def test_a_machine_that_is_to_run_always_is_never_given_up() -> None:
    machine = replace(RAN, generation=2, restart=RestartPolicy.ALWAYS)
    told = list(refusals(machine, ENDED, DUE, 50))
    assert len(told) == 50
    assert told[-1][1].reason == f"{CAUSE}; attempt 50 to start it was refused, again in 120 s"
    none = list(refusals(machine, ENDED, replace(DUE, pauses_s=()), 50))
    assert [row.reason for _, row in none] == [f"{CAUSE}; gave up after 1 attempt to start it"]


@pytest.mark.parametrize("name", OWED)
def test_nothing_is_done_before_the_pause_is_over(name: str) -> None:
    machine, seen, _, state = OWED[name]
    *_, (_, waiting) = refusals(machine, seen, DUE, 3)
    rest = next_step(waiting, seen)
    assert isinstance(rest, Settle)
    assert (rest.state, rest.reason, rest.awaits, rest.attempts) == (state, waiting.reason, Awaits.ATTEMPT, 3)
    assert isinstance(next_step(replace(waiting, settled_generation=0, generation=2), seen), Await)


def test_what_runs_in_spite_of_a_refusal_runs() -> None:
    *_, (_, waiting) = refusals(replace(MACHINE, state=State.STOPPED), ENDED, DUE, 2)
    assert next_step(waiting, RUNNING) == Settle(State.RUNNING)


def test_an_attempt_that_was_interrupted_is_taken_again_without_a_pause() -> None:
    *_, (_, waiting) = refusals(replace(MACHINE, state=State.STOPPED), ENDED, DUE, 2)
    act = next_step(waiting, ENDED, DUE)
    assert isinstance(act, Act)
    assert next_step(begun(waiting, act), ENDED) == act
    assert next_step(replace(begun(waiting, act), state=State.UNKNOWN), ENDED) == act


def test_a_machine_that_may_not_run_meanwhile_is_held_and_started_when_it_may() -> None:
    *_, (_, waiting) = refusals(replace(MACHINE, state=State.STOPPED), ENDED, DUE, 2)
    rest = next_step(waiting, ENDED, Circumstances(hold="the lease has ended", due=True))
    assert rest == Settle(State.STOPPED, "held: the lease has ended", awaits=Awaits.LEASE)


@pytest.mark.parametrize(
    ("step", "error", "final"),
    [
        (Step.ADD, ImageRejected("image", "corrupt"), True),
        (Step.ADD, UnknownImage("image", "none"), True),
        (Step.ADD, NotFound("no image"), True),
        (Step.ADD, AlreadyExists("a container that is not ours has this name"), True),
        (Step.ADD, Conflict("a domain that is not ours has this name"), True),
        (Step.PAUSE, AbilityMissing("cannot be paused"), True),
        (Step.ADD, DriverFailed("no"), False),
        (Step.ADD, NoSpace("full"), False),
        (Step.START, PortTaken("by another"), False),
        (Step.ADD, PortTaken("by another"), False),
        (Step.START, Conflict("it is being removed"), False),
    ],
)
def test_what_is_final_by_its_nature_is_not_repeated(step: Step, error: GarbiError, final: bool) -> None:
    assert is_final(step, error) is final
    setback = after_refusal(replace(MACHINE, state=State.STARTING), step, None, CAUSE, final, Circumstances())
    assert (setback.awaits is Awaits.NOTHING, setback.settles) == (final, final)
    if final:
        assert (setback.state, setback.reason) == (State.FAILED, CAUSE)


# Stops


def test_a_stop_that_is_refused_is_asked_for_again_then_enforced_and_that_is_repeated_for_ever() -> None:
    machine = replace(RAN, wish=Wish.STOPPED, generation=2)
    for number, pause in ((1, 1), (2, 2), (3, 4)):
        act = next_step(machine, RUNNING)
        assert isinstance(act, Act)
        assert (act.step, act.during) == (Step.STOP, State.STOPPING)
        machine = begun(machine, act)
        setback = after_refusal(machine, act.step, RUNNING, CAUSE, final=False, now=Circumstances())
        assert setback.reason == f"{CAUSE}; attempt {number} to stop it was refused, again in {pause} s"
        assert (setback.state, setback.settles, setback.pause_s) == (State.STOPPING, False, pause)
        machine = set_back(machine, setback)
        assert next_step(machine, RUNNING, Circumstances(Progress.REFUSED)) == Await()
    for _ in range(50):
        act = next_step(machine, RUNNING, Circumstances(Progress.OVERDUE))
        assert isinstance(act, Act)
        assert act.step is Step.KILL
        machine = begun(machine, act)
        setback = after_refusal(machine, act.step, RUNNING, CAUSE, final=True, now=Circumstances())
        assert setback.pause_s is not None
        assert 0 < setback.pause_s <= 15
        machine = set_back(machine, setback)
        assert not machine.settled
    assert next_step(machine, ENDED, Circumstances(Progress.OVERDUE)) == Settle(State.STOPPED)


def test_a_stop_that_was_refused_yields_to_a_later_start() -> None:
    machine = replace(RAN, state=State.STOPPING, generation=3)
    for stop in (Progress.REFUSED, Progress.NOT_ASKED, Progress.OVERDUE):
        assert next_step(machine, RUNNING, Circumstances(stop)) == Settle(State.RUNNING)


def test_a_frozen_machine_that_cannot_be_let_go_on_is_powered_off_in_the_end() -> None:
    frozen = seen_as(Condition.PAUSED)
    machine = replace(RAN, wish=Wish.STOPPED, state=State.PAUSED, generation=2)
    act = next_step(machine, frozen)
    assert isinstance(act, Act)
    machine = begun(machine, act)
    setback = after_refusal(machine, act.step, frozen, CAUSE, final=False, now=Circumstances())
    assert (setback.state, setback.pause_s) == (State.STOPPING, 1)
    machine = set_back(machine, setback)
    assert next_step(machine, frozen, Circumstances(Progress.REFUSED)) == Await()
    killed = next_step(machine, frozen, Circumstances(Progress.OVERDUE))
    assert isinstance(killed, Act)
    assert killed.step is Step.KILL


def test_a_removal_that_is_refused_is_repeated_for_ever_and_wins_over_what_was_owed() -> None:
    machine = replace(MACHINE, wish=Wish.REMOVED, state=State.FAILED, awaits=Awaits.ATTEMPT, attempts=3)
    for _ in range(50):
        act = next_step(machine, ENDED)
        assert isinstance(act, Act)
        assert act.step is Step.REMOVE
        machine = begun(machine, act)
        setback = after_refusal(machine, act.step, ENDED, CAUSE, final=True, now=Circumstances())
        assert (setback.settles, setback.state) == (True, State.REMOVING)
        machine = set_back(machine, setback)


# Always

settled_rows = st.builds(
    lambda wish, state, reason: replace(MACHINE, wish=wish, state=state, reason=reason, settled_generation=1),
    wishes,
    st.sampled_from(State),
    st.just("why"),
)


@given(settled_rows, st.none() | st.sampled_from(Condition), holds)
def test_what_is_settled_and_not_as_wished_says_why(machine: Machine, seen: Condition | None, hold: str | None) -> None:
    decision = next_step(machine, seen_as(seen), Circumstances(hold=hold))
    if isinstance(decision, Settle):
        after = replace(machine, state=decision.state, reason=decision.reason)
        assert not after.unexplained


@pytest.mark.parametrize(
    ("wish", "condition", "state"),
    [
        (Wish.STOPPED, Condition.RUNNING, State.RUNNING),
        (Wish.STOPPED, Condition.PAUSED, State.PAUSED),
        (Wish.RUNNING, Condition.PAUSED, State.PAUSED),
        (Wish.PAUSED, Condition.RUNNING, State.RUNNING),
    ],
)
def test_what_others_did_is_told(wish: Wish, condition: Condition, state: State) -> None:
    machine = replace(MACHINE, wish=wish, state=State.STOPPED, settled_generation=1)
    assert next_step(machine, seen_as(condition)) == Settle(state, f"it was found {state}")
