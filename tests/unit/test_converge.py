"""`next_step` is the only thing that moves a machine: it is checked for every wish, state and observation."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from garbi.hyper.converge import Act, Await, Circumstances, Progress, Settle, Step, next_step
from garbi.hyper.drivers.protocol import Condition, Observation
from garbi.hyper.model.machine import (
    Awaits,
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

FAILED = "exited with code 3"
EXITED = Observation("m1", Condition.STOPPED, FAILED)
ENDED = Observation("m1", Condition.STOPPED)
RUNNING = Observation("m1", Condition.RUNNING)
RAN = replace(MACHINE, state=State.RUNNING, settled_generation=1)

conditions = st.none() | st.sampled_from(Condition)
wishes = st.sampled_from(Wish)
failures = st.sampled_from(["", FAILED])
holds = st.none() | st.just("the lease has ended")
machines = st.builds(
    lambda wish, state, settled, policy, awaits, restarts, attempts, keep_s: replace(
        MACHINE,
        wish=wish,
        state=state,
        settled_generation=int(settled),
        restart=policy,
        awaits=awaits,
        restarts=restarts,
        attempts=attempts if awaits is Awaits.ATTEMPT else 0,
        keep_s=keep_s,
    ),
    wishes,
    st.sampled_from(State),
    st.booleans(),
    st.sampled_from(RestartPolicy),
    st.sampled_from(Awaits),
    st.integers(0, 7),
    st.integers(1, 7),
    st.sampled_from([0, 60]),
)
circumstances = st.builds(
    Circumstances,
    stop=st.sampled_from(Progress),
    taken=st.none() | st.sampled_from(Step),
    hold=holds,
    due=st.booleans(),
    rested=st.booleans(),
    pauses_s=st.sampled_from([(), (0.0,), (0.0, 10.0, 30.0, 60.0, 120.0)]),
)


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
        case Step.KEEP:
            return condition
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


@given(st.sampled_from(State), conditions, failures)
def test_a_settled_machine_of_which_nothing_is_awaited_is_only_looked_at(
    state: State, condition: Condition | None, failure: str
) -> None:
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
    assert next_step(machine, running, Circumstances(Progress.ASKED)) == Await()
    assert next_step(machine, running, Circumstances(Progress.ASK_AGAIN)) == Act(Step.STOP, State.STOPPING)
    assert next_step(machine, running, Circumstances(Progress.OVERDUE)) == Act(Step.KILL, State.STOPPING)


def test_a_machine_wished_to_run_while_it_is_asked_to_end_is_awaited() -> None:
    machine = replace(MACHINE, wish=Wish.RUNNING, state=State.STOPPING)
    running = seen_as(Condition.RUNNING)
    assert next_step(machine, running, Circumstances(Progress.ASKED)) == Await()
    assert next_step(machine, running, Circumstances(Progress.ASK_AGAIN)) == Await()
    assert next_step(machine, running, Circumstances(Progress.OVERDUE)) == Settle(State.RUNNING)


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


# Restarts


def restarted(machine: Machine, act: Act) -> Machine:
    """The row while the step is being done."""
    restarts = machine.restarts if act.restarts is None else act.restarts
    return replace(machine, state=act.during, reason=act.reason, awaits=act.awaits, restarts=restarts)


def settled(machine: Machine, rest: Settle) -> Machine:
    """The row afterwards."""
    restarts = machine.restarts if rest.restarts is None else rest.restarts
    return replace(
        machine,
        state=rest.state,
        reason=rest.reason,
        awaits=rest.awaits,
        restarts=restarts,
        attempts=rest.attempts,
        settled_generation=machine.generation,
    )


@pytest.mark.parametrize(
    ("policy", "seen", "restarts"),
    [
        (RestartPolicy.NO, EXITED, False),
        (RestartPolicy.NO, ENDED, False),
        (RestartPolicy.ON_FAILURE, EXITED, True),
        (RestartPolicy.ON_FAILURE, ENDED, False),
        (RestartPolicy.ALWAYS, EXITED, True),
        (RestartPolicy.ALWAYS, ENDED, True),
    ],
)
def test_the_policy_says_which_end_is_followed_by_a_restart(
    policy: RestartPolicy, seen: Observation, restarts: bool
) -> None:
    decision = next_step(replace(RAN, restart=policy), seen)
    assert isinstance(decision, Settle)
    assert (decision.awaits is Awaits.RESTART) is restarts


def test_restarts_come_after_growing_pauses_until_the_budget_is_spent() -> None:
    machine = replace(RAN, restart=RestartPolicy.ON_FAILURE)
    told = []
    while True:
        rest = next_step(machine, EXITED)
        assert isinstance(rest, Settle)
        told.append(rest.reason)
        machine = settled(machine, rest)
        if machine.awaits is Awaits.NOTHING:
            break
        assert next_step(machine, EXITED) == Settle(State.FAILED, machine.reason, awaits=Awaits.RESTART)
        act = next_step(machine, EXITED, Circumstances(due=True))
        assert isinstance(act, Act)
        assert (act.step, act.during) == (Step.START, State.STARTING)
        assert act.reason == f"restart {len(told)} of 5: exited with code 3"
        machine = settled(restarted(machine, act), Settle(State.RUNNING))
    assert told == [
        "exited with code 3; restart 1 of 5 now",
        "exited with code 3; restart 2 of 5 in 10 s",
        "exited with code 3; restart 3 of 5 in 30 s",
        "exited with code 3; restart 4 of 5 in 60 s",
        "exited with code 3; restart 5 of 5 in 120 s",
        "exited with code 3; gave up after 5 restarts",
    ]
    assert next_step(machine, EXITED, Circumstances(due=True)) == Settle(State.FAILED, told[-1])


def test_a_machine_that_ran_for_long_has_its_restarts_before_it_again() -> None:
    machine = replace(RAN, restart=RestartPolicy.ON_FAILURE, restarts=5)
    assert next_step(machine, RUNNING, Circumstances(rested=True)) == Settle(State.RUNNING, restarts=0)
    rest = next_step(machine, EXITED, Circumstances(rested=True))
    assert rest == Settle(State.FAILED, "exited with code 3; restart 1 of 5 now", awaits=Awaits.RESTART, restarts=0)


def test_where_no_restarts_are_allowed_an_end_is_the_end() -> None:
    machine = replace(RAN, restart=RestartPolicy.ALWAYS)
    none = Circumstances(pauses_s=())
    assert next_step(machine, EXITED, none) == Settle(State.FAILED, FAILED)
    assert next_step(machine, ENDED, none) == Settle(State.STOPPED, "it ended by itself")


@pytest.mark.parametrize("state", [State.STARTING, State.UNKNOWN])
def test_a_restart_that_was_interrupted_is_taken_again_and_counted_once(state: State) -> None:
    machine = replace(RAN, state=state, restart=RestartPolicy.ON_FAILURE, awaits=Awaits.RESTART, restarts=2, reason="x")
    assert next_step(machine, EXITED) == Act(Step.START, State.STARTING, "x", Awaits.RESTART)
    assert next_step(machine, RUNNING) == Settle(State.RUNNING)


def test_a_start_that_led_to_an_end_at_once_is_no_reason_to_start_at_once() -> None:
    machine = replace(MACHINE, state=State.STARTING, restart=RestartPolicy.ON_FAILURE)
    rest = next_step(machine, EXITED, Circumstances(taken=Step.START))
    assert rest == Settle(State.FAILED, "exited with code 3; restart 1 of 5 now", awaits=Awaits.RESTART, restarts=0)
    again = replace(machine, settled_generation=1, awaits=Awaits.RESTART, restarts=1)
    rest = next_step(again, EXITED, Circumstances(taken=Step.START))
    assert isinstance(rest, Settle)
    assert rest.reason == "exited with code 3; restart 2 of 5 in 10 s"


@pytest.mark.parametrize("seen", [None, seen_as(Condition.PARTIAL)])
def test_a_machine_deleted_by_hand_is_not_started_again(seen: Observation | None) -> None:
    for machine in (RAN, replace(RAN, state=State.FAILED, awaits=Awaits.RESTART)):
        rest = next_step(replace(machine, restart=RestartPolicy.ALWAYS), seen, Circumstances(due=True))
        assert isinstance(rest, Settle)
        assert (rest.state, rest.awaits) == (State.FAILED, Awaits.NOTHING)


def test_a_paused_machine_that_dies_is_not_started_again() -> None:
    machine = replace(RAN, wish=Wish.PAUSED, state=State.PAUSED, restart=RestartPolicy.ALWAYS)
    assert next_step(machine, EXITED) == Settle(State.FAILED, FAILED)


# Machines that may not run now

HELD = Circumstances(hold="the lease has ended")


@pytest.mark.parametrize("condition", [Condition.RUNNING, Condition.PAUSED])
@given(machine=machines)
def test_a_machine_that_may_not_run_is_powered_off(condition: Condition, machine: Machine) -> None:
    decision = next_step(machine, seen_as(condition), HELD)
    assert isinstance(decision, Act)
    assert decision.step is (Step.REMOVE if machine.wish is Wish.REMOVED and not machine.keep_s else Step.KILL)


@pytest.mark.parametrize("policy", RestartPolicy)
@pytest.mark.parametrize("died", [replace(RAN), replace(RAN, state=State.UNKNOWN), replace(RAN, state=State.STOPPING)])
def test_a_machine_that_may_not_run_is_stopped_with_the_reason_and_started_when_it_may(
    died: Machine, policy: RestartPolicy
) -> None:
    machine = replace(died, restart=policy, restarts=2)
    for awaits in Awaits:
        rest = next_step(replace(machine, awaits=awaits), EXITED, replace(HELD, due=True))
        assert rest == Settle(State.STOPPED, "held: the lease has ended", awaits=Awaits.LEASE)
    held = settled(machine, Settle(State.STOPPED, "held: the lease has ended", awaits=Awaits.LEASE))
    assert held.held
    freed = next_step(held, EXITED)
    assert freed == Act(Step.START, State.STARTING, awaits=Awaits.LEASE)
    assert next_step(restarted(held, freed), EXITED) == freed, "a crash of the agent does not lose it"
    assert next_step(restarted(held, freed), RUNNING) == Settle(State.RUNNING)


def test_a_wish_of_a_machine_that_may_not_run_settles_as_stopped_once_it_is_made() -> None:
    assert next_step(MACHINE, None, HELD) == Act(Step.ADD, State.CREATING)
    rest = Settle(State.STOPPED, "held: the lease has ended", awaits=Awaits.LEASE)
    assert next_step(MACHINE, ENDED, HELD) == rest
    assert next_step(replace(MACHINE, wish=Wish.STOPPED), ENDED, HELD) == Settle(State.STOPPED)


def test_a_machine_that_was_given_up_or_ended_by_itself_is_not_started_when_it_may_run_again() -> None:
    for state in (State.FAILED, State.STOPPED):
        machine = replace(RAN, state=state, reason="why")
        assert next_step(machine, EXITED, HELD) == Settle(state, "why")


# A disk that outlives its machine


def test_a_disk_is_kept_before_its_machine_is_removed_and_a_machine_that_runs_ends_first() -> None:
    machine = replace(RAN, wish=Wish.REMOVED, keep_s=60)
    assert next_step(machine, RUNNING) == Act(Step.KILL, State.REMOVING)
    for seen in (ENDED, seen_as(Condition.PARTIAL), None):
        assert next_step(machine, seen) == Act(Step.KEEP, State.REMOVING)
        assert next_step(machine, seen, Circumstances(taken=Step.KEEP)) == Act(Step.REMOVE, State.REMOVING)


# Always


@given(machines, conditions, failures, circumstances)
def test_nothing_is_powered_on_that_may_not_run_or_that_its_user_stopped(
    machine: Machine, condition: Condition | None, failure: str, now: Circumstances
) -> None:
    decision = next_step(machine, seen_as(condition, failure), now)
    if isinstance(decision, Act) and decision.step is Step.START:
        assert machine.wish is not Wish.REMOVED
        assert now.hold is None or condition is not Condition.STOPPED
        # A frozen machine is let go on, so that it hears that it is to end.
        assert machine.wish is not Wish.STOPPED or condition is Condition.PAUSED


@given(machines, conditions, failures, circumstances)
def test_no_more_restarts_begin_than_are_allowed_and_none_against_the_policy(
    machine: Machine, condition: Condition | None, failure: str, now: Circumstances
) -> None:
    decision = next_step(machine, seen_as(condition, failure), now)
    if isinstance(decision, Act) and decision.restarts is not None:
        assert (decision.step, decision.awaits) == (Step.START, Awaits.RESTART)
        assert decision.restarts == machine.restarts + 1 <= len(now.pauses_s)
        assert now.due
        assert machine.awaits is Awaits.RESTART
    if isinstance(decision, Settle) and decision.awaits is Awaits.RESTART and machine.awaits is not Awaits.RESTART:
        assert machine.restart is not RestartPolicy.NO
        assert machine.wish is Wish.RUNNING
        assert now.hold is None


@given(machines, conditions, failures, circumstances, failures)
def test_every_machine_comes_to_rest_whatever_is_wished_seen_and_allowed(
    machine: Machine, condition: Condition | None, failure: str, now: Circumstances, dies: str
) -> None:
    seen = seen_as(condition, failure)
    for _ in range(8):
        decision = next_step(machine, seen, now)
        if isinstance(decision, Settle):
            machine, after = settled(machine, decision), replace(now, due=False, rested=False, taken=None)
            again = next_step(machine, seen, after)
            assert isinstance(again, Settle)
            assert settled(machine, again) == machine, "what has come to rest stays there"
            return
        if isinstance(decision, Await):
            now = replace(now, stop=Progress.OVERDUE, due=True)
            continue
        machine, now = restarted(machine, decision), replace(now, taken=decision.step)
        if decision.step is Step.REMOVE:
            return
        follows = effect(decision.step, seen and seen.condition)
        if decision.step is Step.START and dies:
            follows = Condition.STOPPED
        seen = seen_as(follows, dies if follows is Condition.STOPPED else "")
    pytest.fail("no rest was found")
