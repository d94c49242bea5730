"""The table of transitions is exactly what can happen: every situation that can be reached is visited, and compared with it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from tests.unit.test_converge import MACHINE

from garbi.hyper.converge import Act, Await, Circumstances, Progress, Settle, Step, next_step
from garbi.hyper.drivers.protocol import Condition, Observation
from garbi.hyper.model.machine import TRANSITIONS, Awaits, RestartPolicy, State, Wish

FINAL_FAILURE = "exited with code 3"
SURE = (State.FAILED, State.REMOVING, State.PENDING)
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
    if now.stop is Progress.ASKED:
        yield replace(now, stop=Progress.OVERDUE)
    if now.state not in SURE:
        yield replace(now, state=State.UNKNOWN)  # the driver does not answer
    if now.wish in (Wish.RUNNING, Wish.PAUSED) and now.state in (State.RUNNING, State.PAUSED, State.UNKNOWN):
        yield replace(now, wish=Wish.RUNNING, settled=False, condition=Condition.STOPPED, failed=True)  # reboot


def the_agent_takes_a_step(now: Situation) -> Iterator[Situation]:
    machine = replace(
        MACHINE,
        wish=now.wish,
        state=now.state,
        settled_generation=int(now.settled),
        restart=RestartPolicy.ON_FAILURE,
        awaits=now.awaits,
    )
    for due in (False, True):
        hold = "its lease has ended" if now.held else None
        decision = next_step(machine, now.observation(), Circumstances(now.stop, now.taken, hold, due))
        if isinstance(decision, Settle):
            rest = replace(now, state=decision.state, settled=True, stop=Progress.NOT_ASKED)
            yield replace(rest, awaits=decision.awaits, taken=None)
        elif isinstance(decision, Act):
            yield from outcomes(replace(now, state=decision.during, awaits=decision.awaits), decision.step)
        else:
            assert isinstance(decision, Await)


def outcomes(begun: Situation, step: Step) -> Iterator[Situation]:
    yield replace(begun, taken=None)  # killed before the effect, or postponed
    if step is Step.REMOVE:
        return  # the row is gone, or stays as it is
    if (
        begun.awaits is not Awaits.LEASE or begun.state is not State.STOPPING
    ):  # who must not run is powered off in the end
        yield replace(begun, state=State.FAILED, settled=True, stop=Progress.NOT_ASKED, taken=None)
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


def the_user_wishes(now: Situation) -> Iterator[Situation]:
    if now.wish is Wish.REMOVED:
        return
    yield replace(now, wish=Wish.REMOVED, settled=False)
    for wish, reached in REACHED.items():
        refused = now.settled and now.state is reached
        refused |= wish is Wish.PAUSED and now.state is not State.RUNNING
        if not refused and not (now.wish is wish and not now.settled):
            yield replace(now, wish=wish, settled=False, awaits=Awaits.NOTHING)


def the_world_changes(now: Situation) -> Iterator[Situation]:
    if now.condition in (None, Condition.PARTIAL):
        return
    yield replace(now, condition=None, failed=False)
    for condition in (Condition.STOPPED, Condition.RUNNING, Condition.PAUSED):
        yield replace(now, condition=condition, failed=False)
    yield replace(now, condition=Condition.STOPPED, failed=True)
