"""The table of transitions is exactly what can happen: every situation that can be reached is visited, and compared with it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from tests.unit.test_converge import MACHINE

from garbi.hyper.converge import Act, Await, Circumstances, Progress, Settle, Step, after_refusal, next_step
from garbi.hyper.drivers.protocol import Condition, Observation
from garbi.hyper.model.machine import TRANSITIONS, Awaits, Machine, RestartPolicy, State, Wish

FINAL_FAILURE = "exited with code 3"
SURE = (State.FAILED, State.REMOVING, State.PENDING)
PAUSES = (0.0, 10.0)
MANY = len(PAUSES)
REACHED = {Wish.RUNNING: State.RUNNING, Wish.STOPPED: State.STOPPED, Wish.PAUSED: State.PAUSED}


@dataclass(frozen=True)
class Situation:
    """All that `next_step` sees, and the truth at the daemon."""

    wish: Wish
    state: State
    settled: bool = False
    condition: Condition | None = None
    failed: bool = False
    stop: Progress = Progress.NOT_ASKED
    taken: Step | None = None
    held: bool = False
    awaits: Awaits = Awaits.NOTHING
    attempts: int = 0

    def observation(self) -> Observation | None:
        if self.condition is None:
            return None
        return Observation("m1", self.condition, FINAL_FAILURE if self.failed else "")


def test_what_can_happen_is_the_table_and_the_table_is_what_can_happen() -> None:
    start = [Situation(wish, State.PENDING) for wish in (Wish.RUNNING, Wish.STOPPED)]
    seen, todo = set(start), list(start)
    edges: set[tuple[State, State]] = set()
    while todo:
        present = todo.pop()
        for following in all_that_may_follow(present):
            if following.state is not present.state:
                edges.add((present.state, following.state))
            if following not in seen:
                seen.add(following)
                todo.append(following)
    table = {(row.source, row.target) for row in TRANSITIONS.rows}
    assert edges - table == set(), "happens, but is not in the table"
    assert table - edges == set(), "is in the table, but cannot happen"


def all_that_may_follow(now: Situation) -> Iterator[Situation]:
    yield from the_agent_takes_a_step(now)
    now = replace(now, taken=None)
    yield from the_user_wishes(now)
    yield from the_world_changes(now)
    yield replace(now, stop=Progress.NOT_ASKED)  # the agent is restarted
    yield replace(now, held=not now.held)
    if now.stop in (Progress.ASKED, Progress.REFUSED):
        yield replace(now, stop=Progress.OVERDUE)
    if now.state not in SURE:
        yield replace(now, state=State.UNKNOWN)  # the driver does not answer
    if now.wish in (Wish.RUNNING, Wish.PAUSED) and now.state in (State.RUNNING, State.PAUSED, State.UNKNOWN):
        fresh = replace(now, wish=Wish.RUNNING, awaits=Awaits.NOTHING, attempts=0)
        yield replace(fresh, settled=False, condition=Condition.STOPPED, failed=True)  # reboot


def the_agent_takes_a_step(now: Situation) -> Iterator[Situation]:
    machine = replace(
        MACHINE,
        wish=now.wish,
        state=now.state,
        settled_generation=int(now.settled),
        restart=RestartPolicy.ON_FAILURE,
        awaits=now.awaits,
        attempts=now.attempts,
    )
    for due in (False, True):
        hold = "its lease has ended" if now.held else None
        circumstances = Circumstances(now.stop, now.taken, hold, due, pauses_s=PAUSES)
        decision = next_step(machine, now.observation(), circumstances)
        if isinstance(decision, Settle):
            rest = replace(now, state=decision.state, settled=True, stop=Progress.NOT_ASKED)
            yield replace(rest, awaits=decision.awaits, attempts=min(decision.attempts, MANY), taken=None)
        elif isinstance(decision, Act):
            begun = replace(now, state=decision.during, awaits=decision.awaits)
            yield from outcomes(begun, decision.step)
            yield from refusals(machine, begun, decision)
        else:
            assert isinstance(decision, Await)


def outcomes(begun: Situation, step: Step) -> Iterator[Situation]:
    yield replace(begun, taken=None)  # killed before the effect, or postponed
    if step is Step.REMOVE:
        return  # the row is gone, or stays as it is
    effects = {
        Step.ADD: [Condition.STOPPED, Condition.PARTIAL],
        Step.START: [Condition.RUNNING, Condition.STOPPED],
        Step.PAUSE: [Condition.PAUSED],
        Step.STOP: [Condition.RUNNING, Condition.STOPPED],
        Step.KILL: [Condition.STOPPED],
    }
    for condition in effects[step]:
        stop = Progress.ASKED if step is Step.STOP else begun.stop
        yield replace(begun, condition=condition, failed=False, stop=stop, taken=step)


def refusals(before: Machine, begun: Situation, act: Act) -> Iterator[Situation]:
    """The step is refused; a restart that is refused is as one that failed, which other outcomes show."""
    machine = replace(before, state=act.during, awaits=act.awaits)
    for final in (False, True):
        setback = after_refusal(
            machine, act.step, begun.observation(), "refused", final, Circumstances(pauses_s=PAUSES)
        )
        stop = Progress.REFUSED if setback.pause_s is not None else begun.stop
        yield replace(
            begun,
            state=setback.state,
            settled=begun.settled or setback.settles,
            awaits=setback.awaits,
            attempts=min(setback.attempts, MANY),
            stop=stop,
            taken=None,
        )


def the_user_wishes(now: Situation) -> Iterator[Situation]:
    if now.wish is Wish.REMOVED:
        return
    yield replace(now, wish=Wish.REMOVED, settled=False)
    for wish, reached in REACHED.items():
        refused = now.settled and now.state is reached
        refused |= wish is Wish.PAUSED and now.state is not State.RUNNING
        if not refused and not (now.wish is wish and not now.settled):
            yield replace(now, wish=wish, settled=False, awaits=Awaits.NOTHING, attempts=0)


def the_world_changes(now: Situation) -> Iterator[Situation]:
    if now.condition in (None, Condition.PARTIAL):
        return
    yield replace(now, condition=None, failed=False)
    for condition in (Condition.STOPPED, Condition.RUNNING, Condition.PAUSED):
        yield replace(now, condition=condition, failed=False)
    yield replace(now, condition=Condition.STOPPED, failed=True)
