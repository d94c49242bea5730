"""`next_step` is the only thing that moves a machine: it is checked for every wish, state and observation."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from garbi.hyper.converge import Act, Await, Progress, Settle, Step, next_step
from garbi.hyper.drivers.protocol import Condition, Observation
from garbi.hyper.model.machine import (
    Machine,
    NodeFailurePolicy,
    RestartPolicy,
    State,
    Wish,
)

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
MACHINE = Machine(
    id="m1",
    name="m1",
    type="fake",
    image="tiny",
    image_sha256="0" * 64,
    mem=128,
    cpus=1,
    node="n",
    ports=(),
    labels={},
    full_copy=False,
    wish=Wish.RUNNING,
    state=State.PENDING,
    reason="",
    address=None,
    mac=None,
    restart=RestartPolicy.NO,
    on_node_failure=NodeFailurePolicy.STAY,
    generation=1,
    settled_generation=0,
    boot_id="b",
    created_at=EPOCH,
    updated_at=EPOCH,
)

conditions = st.none() | st.sampled_from(Condition)
wishes = st.sampled_from(Wish)


def seen_as(condition: Condition | None, failure: str = "") -> Observation | None:
    return None if condition is None else Observation("m1", condition, failure)


def effect(step: Step, condition: Condition | None) -> Condition | None:
    """What a faithful driver would show after a step."""
    match step:
        case Step.ADD:
            return Condition.STOPPED
        case Step.START:
            return Condition.RUNNING
        case Step.PAUSE:
            return Condition.PAUSED
        case Step.STOP | Step.KILL:
            return Condition.STOPPED if condition is not None else None
        case Step.REMOVE:
            return None


@given(wishes, conditions)
def test_every_wish_is_reached_in_a_few_steps_from_whatever_is_seen(wish: Wish, first: Condition | None) -> None:
    machine, condition = replace(MACHINE, wish=wish), first
    for _ in range(5):
        decision = next_step(machine, seen_as(condition))
        if isinstance(decision, Settle):
            break
        assert isinstance(decision, Act)
        condition = effect(decision.step, condition)
        if decision.step is Step.REMOVE:
            return
    else:
        pytest.fail("no rest was found")
    reached = {Wish.RUNNING: State.RUNNING, Wish.STOPPED: State.STOPPED, Wish.PAUSED: State.PAUSED}
    ended_meanwhile = wish is Wish.PAUSED and condition is Condition.STOPPED
    assert decision.state is reached[wish] or ended_meanwhile


@given(st.sampled_from(State), conditions, st.sampled_from(["", "exited with code 3"]))
def test_a_settled_machine_is_only_looked_at(state: State, condition: Condition | None, failure: str) -> None:
    for wish in (Wish.RUNNING, Wish.STOPPED, Wish.PAUSED):
        machine = replace(MACHINE, wish=wish, state=state, settled_generation=1)
        assert isinstance(next_step(machine, seen_as(condition, failure)), Settle)


def test_a_machine_that_ends_by_itself_is_not_started_again() -> None:
    machine = replace(MACHINE, state=State.RUNNING, settled_generation=1)
    assert next_step(machine, seen_as(Condition.STOPPED)) == Settle(State.STOPPED, "it ended by itself")


def test_a_machine_that_dies_is_failed_with_the_cause() -> None:
    machine = replace(MACHINE, state=State.RUNNING, settled_generation=1)
    assert next_step(machine, seen_as(Condition.STOPPED, "killed: out of memory")) == Settle(
        State.FAILED, "killed: out of memory"
    )


def test_a_machine_deleted_by_hand_is_failed() -> None:
    machine = replace(MACHINE, state=State.RUNNING, settled_generation=1)
    decision = next_step(machine, None)
    assert isinstance(decision, Settle)
    assert decision.state is State.FAILED
    assert "outside" in decision.reason


def test_a_stop_is_asked_for_once_awaited_and_enforced_at_its_deadline() -> None:
    machine = replace(MACHINE, wish=Wish.STOPPED, state=State.RUNNING)
    running = seen_as(Condition.RUNNING)
    assert next_step(machine, running) == Act(Step.STOP, State.STOPPING)
    assert next_step(machine, running, Progress.ASKED) == Await()
    assert next_step(machine, running, Progress.ASK_AGAIN) == Act(Step.STOP, State.STOPPING)
    assert next_step(machine, running, Progress.OVERDUE) == Act(Step.KILL, State.STOPPING)


def test_a_machine_wished_to_run_while_it_is_asked_to_end_is_awaited() -> None:
    machine = replace(MACHINE, wish=Wish.RUNNING, state=State.STOPPING)
    running = seen_as(Condition.RUNNING)
    assert next_step(machine, running, Progress.ASKED) == Await()
    assert next_step(machine, running, Progress.ASK_AGAIN) == Await()
    assert next_step(machine, running, Progress.OVERDUE) == Settle(State.RUNNING)


def test_a_machine_stopped_by_the_user_is_not_failed_by_its_exit_code() -> None:
    machine = replace(MACHINE, wish=Wish.STOPPED, state=State.STOPPING)
    assert next_step(machine, seen_as(Condition.STOPPED, "exited with code 143")) == Settle(State.STOPPED)


def test_a_half_made_machine_is_completed() -> None:
    assert next_step(MACHINE, seen_as(Condition.PARTIAL)) == Act(Step.ADD, State.CREATING)


@given(st.sampled_from(State), conditions)
def test_a_removal_wins_over_everything(state: State, condition: Condition | None) -> None:
    machine = replace(MACHINE, wish=Wish.REMOVED, state=state)
    assert next_step(machine, seen_as(condition)) == Act(Step.REMOVE, State.REMOVING)


def test_a_stopped_machine_does_not_keep_the_reason_why_it_was_unknown() -> None:
    machine = replace(MACHINE, wish=Wish.STOPPED, state=State.UNKNOWN, reason="no answer", settled_generation=1)
    assert next_step(machine, seen_as(Condition.STOPPED)) == Settle(State.STOPPED)
