"""The decision about the next step of a machine: every case of a table, and what holds in all of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from garbi.hyper_api.vocabulary import NodeFailurePolicy, RestartPolicy, State, Wish
from garbi.iaas.converge import (
    NEVER_AGAIN,
    PASSING,
    Absent,
    Act,
    Await,
    Certainty,
    Gone,
    Lost,
    Mirror,
    Seen,
    Sight,
    Silent,
    Step,
    Vacate,
    is_news,
    next_step,
    nothing_sent,
)
from garbi.iaas.model.machine import Machine, Moving
from garbi.iaas.monitor.failover import reason_of_loss

NOW = datetime(2026, 1, 1, tzinfo=UTC)
DIGEST = "9b2c1f0e6d3a4b5c8d7e6f5a4b3c2d1e0f9a8b7c6d5e4f3a2b1c0d9e8f7a6b5c"

NEW = Machine(
    id="web",
    name="web",
    type="fake",
    image="any",
    image_sha256="",
    mem=16,
    cpus=1,
    disk=0,
    node="n1",
    ports=(),
    labels={},
    require={},
    apart=None,
    full_copy=False,
    wish=Wish.RUNNING,
    state=State.PENDING,
    reason="",
    refused=False,
    address=None,
    restart=RestartPolicy.NO,
    on_node_failure=NodeFailurePolicy.RECREATE,
    generation=1,
    told_generation=0,
    settled_generation=0,
    epoch=2,
    operation=None,
    seen_at=None,
    created_at=NOW,
    updated_at=NOW,
)
ORDERED = replace(NEW, state=State.CREATING)
MADE = replace(NEW, state=State.RUNNING, told_generation=1, settled_generation=1)
WISHED = replace(MADE, generation=2, wish=Wish.STOPPED)
DOOMED = replace(MADE, generation=2, wish=Wish.REMOVED)
DOOMED_AND_TOLD = replace(DOOMED, state=State.REMOVING, told_generation=2)
REFUSED = replace(NEW, state=State.FAILED, reason="no", refused=True, settled_generation=1)

LOST_AND_STAYS = replace(
    MADE, state=State.FAILED, reason="lost with node n1: fenced", on_node_failure=NodeFailurePolicy.STAY
)
LOST_AND_NEW = replace(NEW, state=State.FAILED, reason="lost with node n1: fenced", settled_generation=1)

OURS = Sight(State.RUNNING, True, epoch=2, address="10.0.0.2")
BUSY = replace(OURS, state=State.STOPPING, settled=False, reason="it hesitates")
HELD = replace(OURS, state=State.STOPPED, reason="held: its lease was ended")
OLD = replace(OURS, epoch=1)
FOREIGN = replace(OURS, epoch=None)
GOING = replace(OURS, going=True)
OLD_GOING = replace(OLD, going=True)
WAITED = Mirror(State.REMOVING, settled=False)
LEAVING = replace(GOING, settled=False)
STUCK = replace(GOING, settled=True, reason="the disk is stuck")

LATER = replace(OURS, epoch=3)
GONE = Absent(Certainty.GONE)
UNSURE = Absent(Certainty.UNSURE, "nobody knows")

STAYS = replace(MADE, on_node_failure=NodeFailurePolicy.STAY)
LEAVES = replace(MADE, moving=Moving.LEAVING, moving_why="n1 is drained")
LEAVES_STOPPED = replace(LEAVES, wish=Wish.STOPPED, generation=2)
LEFT = replace(LEAVES, moving=Moving.GONE, state=State.PENDING, told_generation=0, settled_generation=0)

DISAPPEARED = Mirror(State.FAILED, "it disappeared from node n1")
DISAPPEARED_FOR_GOOD = Mirror(State.FAILED, f"it disappeared from node n1; {NEVER_AGAIN}")
MAYBE = "it disappeared from node n1, perhaps: nobody knows"
OTHER = "another machine of that id is on node n1: whether this one is gone is not known"
CONFIRM = Act(Step.CONFIRM, State.RUNNING)
CREATE = Act(Step.CREATE, State.CREATING)
DISTRIBUTE = Act(Step.DISTRIBUTE, State.CREATING)
REMOVE = Act(Step.REMOVE, State.REMOVING)

CASES: list[tuple[str, Machine, Seen, object]] = [
    ("a new machine is ordered", NEW, Absent(), CREATE),
    ("a new machine waits for a silent node", NEW, Silent(), Await()),
    ("an order that may have been lost is repeated", ORDERED, Absent(), CREATE),
    ("an order that was carried out unseen is told on", ORDERED, OURS, Act(Step.TELL, State.CREATING)),
    ("the node itself says who has the name", ORDERED, FOREIGN, CREATE),
    ("what an earlier assignment left goes first", ORDERED, OLD, Act(Step.REMOVE, State.CREATING)),
    ("what an earlier assignment left is waited for", ORDERED, OLD_GOING, Await()),
    ("content is brought first", replace(NEW, image_sha256=DIGEST), Absent(), DISTRIBUTE),
    ("a refused machine stays as it is", REFUSED, Absent(), Mirror(State.FAILED, "no")),
    ("a refused machine that is wished again is ordered", replace(REFUSED, generation=2), Absent(), CREATE),
    ("what the node says is so", MADE, OURS, Mirror(State.RUNNING, address="10.0.0.2")),
    ("what goes on is not settled", MADE, BUSY, Mirror(State.STOPPING, "it hesitates", "10.0.0.2", settled=False)),
    ("nothing follows from silence", MADE, Silent(), Await()),
    ("of what is not listed the engine is asked", MADE, Absent(), CONFIRM),
    ("what is gone for certain is made again", MADE, GONE, Vacate(here=True)),
    ("what may be there is not made again", MADE, UNSURE, Mirror(State.FAILED, MAYBE)),
    ("what is lost is not made again to be stopped", WISHED, Absent(), DISAPPEARED),
    ("what stays is not made again", STAYS, Absent(), DISAPPEARED_FOR_GOOD),
    ("what stays is not made again even when it is gone", STAYS, GONE, DISAPPEARED_FOR_GOOD),
    ("somebody else's machine is not ours", MADE, FOREIGN, DISAPPEARED),
    ("what a later assignment made is not ours to touch", MADE, LATER, DISAPPEARED),
    ("an earlier assignment is not this one", MADE, OLD, Act(Step.REMOVE, State.RUNNING)),
    ("an earlier assignment is waited for", MADE, OLD_GOING, Await()),
    ("an earlier assignment of what stays is not this one", STAYS, OLD, DISAPPEARED_FOR_GOOD),
    ("what goes elsewhere is removed", LEAVES, OURS, Act(Step.LEAVE, State.REMOVING)),
    ("what is to go elsewhere is removed", replace(LEAVES, moving=Moving.WANTED), OURS, Act(Step.LEAVE, State.REMOVING)),
    ("what goes elsewhere is removed whatever is wished", LEAVES_STOPPED, OURS, Act(Step.LEAVE, State.REMOVING)),
    ("what goes elsewhere is waited for", LEAVES, LEAVING, Mirror(State.REMOVING, "n1 is drained", settled=False)),
    ("why it does not go is shown", LEAVES, STUCK, Mirror(State.REMOVING, "the disk is stuck", settled=False)),
    ("what left without a word may be there", LEAVES, Absent(), Act(Step.CONFIRM, State.RUNNING)),
    ("what has left is to go elsewhere", LEAVES, GONE, Vacate(here=False)),
    ("what may not have left goes nowhere", LEAVES, UNSURE, Mirror(State.FAILED, MAYBE)),
    ("what leaves a silent node is waited for", LEAVES, Silent(), Await()),
    ("what leaves a dead node has no node", LEAVES, Lost(), Await()),
    ("what was never sent leaves at once", replace(NEW, moving=Moving.LEAVING), Absent(), Vacate(here=False)),
    ("somebody else's machine is no proof that ours left", LEAVES, FOREIGN, Mirror(State.FAILED, OTHER)),
    ("what has left waits for a node", LEFT, Absent(), Await()),
    ("what has left waits, whatever its node has", LEFT, OURS, Await()),
    ("what leaves and is removed goes", replace(LEAVES, wish=Wish.REMOVED), OURS, REMOVE),
    ("what has left and is removed is gone at once", replace(LEFT, wish=Wish.REMOVED), Silent(), Gone()),
    ("a new wish is told", WISHED, OURS, Act(Step.TELL, State.RUNNING)),
    ("a wish is told even when it is the same word", replace(MADE, generation=2), OURS, Act(Step.TELL, State.RUNNING)),
    ("a wish waits for a silent node", WISHED, Silent(), Await()),
    ("a removal is told", DOOMED, OURS, REMOVE),
    ("a removal is told again when it is wished again", replace(DOOMED_AND_TOLD, generation=3), GOING, REMOVE),
    ("a removal that is under way is waited for", DOOMED_AND_TOLD, LEAVING, WAITED),
    ("a removal that is stuck is shown", DOOMED_AND_TOLD, STUCK, Mirror(State.REMOVING, "the disk is stuck")),
    ("a removal waits for a silent node", DOOMED, Silent(), Await()),
    ("what is gone is forgotten", DOOMED_AND_TOLD, Absent(), Gone()),
    ("somebody else's machine is left alone", DOOMED, FOREIGN, Gone()),
    ("what an earlier assignment left is removed", DOOMED, OLD, REMOVE),
    ("what was never ordered is forgotten at once", replace(NEW, wish=Wish.REMOVED, generation=2), Silent(), Gone()),
    ("what was refused is forgotten at once", replace(REFUSED, wish=Wish.REMOVED, generation=2), Silent(), Gone()),
    ("what is to run is created elsewhere, not here", MADE, Lost(), Await()),
    ("what stays has failed with its node", LOST_AND_STAYS, Lost(), Mirror(State.FAILED, LOST_AND_STAYS.reason)),
    ("what is wished stopped does not run on a dead node", replace(LOST_AND_STAYS, wish=Wish.STOPPED, generation=2), Lost(),
     Mirror(State.STOPPED, LOST_AND_STAYS.reason)),
    ("what is wished away is gone with its node", DOOMED, Lost(), Gone()),
    ("what was lost and never made is made when its node is back", LOST_AND_NEW, Absent(), CREATE),
    ("what is held is told again", MADE, HELD, Act(Step.TELL, State.RUNNING)),
    ("what is about to be held or freed is waited for", MADE, replace(HELD, settled=False),
     Mirror(State.STOPPED, HELD.reason, "10.0.0.2", settled=False)),
    ("what is held and wished stopped stays as it is", replace(MADE, wish=Wish.STOPPED), HELD,
     Mirror(State.STOPPED, HELD.reason, "10.0.0.2")),
    ("what may have been ordered is asked for", replace(ORDERED, wish=Wish.REMOVED, generation=2), Silent(), Await()),
]  # fmt: skip


@pytest.mark.parametrize(("machine", "seen", "decision"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_the_next_step(machine: Machine, seen: Seen, decision: object) -> None:
    assert next_step(machine, seen, image_there=False) == decision


def test_content_that_is_there_is_not_brought_again() -> None:
    assert next_step(replace(NEW, image_sha256=DIGEST), Absent(), image_there=True) == CREATE


NEWS: list[tuple[str, Machine, State, str, bool]] = [
    ("what is written down already", MADE, State.RUNNING, "", False),
    ("another state", MADE, State.STOPPED, "", True),
    ("another reason", MADE, State.RUNNING, "it was restarted", True),
    ("that what goes on has ended", replace(MADE, generation=2, told_generation=2), State.RUNNING, "", True),
    ("what goes on, and is known to", replace(ORDERED, told_generation=1), State.CREATING, "", False),
    ("a machine of which the order may have been lost", ORDERED, State.CREATING, "", True),
    ("a machine that has yet to be told a wish", WISHED, State.RUNNING, "", True),
    ("a machine that is to go", DOOMED, State.RUNNING, "", True),
    ("that it waits to be told again", replace(MADE, state=State.STOPPED, reason=HELD.reason), State.STOPPED, HELD.reason,
     True),
]  # fmt: skip


@pytest.mark.parametrize(
    ("machine", "state", "reason", "is_new"), [case[1:] for case in NEWS], ids=[case[0] for case in NEWS]
)
def test_what_of_an_event_is_news(machine: Machine, state: State, reason: str, is_new: bool) -> None:
    assert is_news(machine, state, reason) is is_new


SIGHTS = st.builds(
    Sight,
    state=st.sampled_from(State),
    settled=st.booleans(),
    reason=st.sampled_from(["", "why"]),
    epoch=st.sampled_from([None, 1, 2, 3]),
    going=st.booleans(),
)
SEEN = st.one_of(SIGHTS, st.just(Absent()), st.just(Silent()), st.just(Lost()))


@st.composite
def machines(draw: st.DrawFn) -> Machine:
    generation = draw(st.integers(1, 4))
    return replace(
        NEW,
        wish=draw(st.sampled_from(Wish)),
        state=draw(st.sampled_from(State)),
        refused=draw(st.booleans()),
        image_sha256=draw(st.sampled_from(["", DIGEST])),
        generation=generation,
        told_generation=draw(st.integers(0, generation)),
        settled_generation=draw(st.integers(0, generation)),
    )


@given(machines(), SEEN, st.booleans())
def test_somebody_elses_machine_is_given_no_order_but_a_refusable_one(
    machine: Machine, seen: Seen, there: bool
) -> None:
    decision = next_step(machine, seen, there)
    if isinstance(seen, Sight) and seen.epoch is None and isinstance(decision, Act):
        assert decision.step in (Step.CREATE, Step.DISTRIBUTE)


@given(machines(), SEEN, st.booleans())
def test_nothing_is_ordered_from_a_silent_or_a_dead_node(machine: Machine, seen: Seen, there: bool) -> None:
    decision = next_step(machine, seen, there)
    if isinstance(seen, Silent | Lost):
        assert not isinstance(decision, Act)


@given(machines(), SEEN, st.booleans())
def test_a_record_goes_only_when_nothing_is_left_and_that_was_wished(machine: Machine, seen: Seen, there: bool) -> None:
    if isinstance(next_step(machine, seen, there), Gone):
        assert machine.wish is Wish.REMOVED
        assert nothing_sent(machine) or not (
            isinstance(seen, Silent) or (isinstance(seen, Sight) and seen.epoch is not None)
        )


@given(machines(), SEEN, st.booleans())
def test_what_a_node_was_told_is_never_created_again(machine: Machine, seen: Seen, there: bool) -> None:
    decision = next_step(machine, seen, there)
    if isinstance(decision, Act) and decision.step in (Step.CREATE, Step.DISTRIBUTE):
        assert machine.told_generation == 0


@given(machines(), st.sampled_from(State), st.sampled_from(["", "why", HELD.reason]))
def test_an_event_of_a_machine_that_has_not_settled_and_come_to_rest_is_news(
    machine: Machine, state: State, reason: str
) -> None:
    told = machine.told_generation == machine.generation
    resting = machine.settled and told and (machine.state, machine.reason) == (state, reason)
    under_way = told and machine.state is state and not machine.settled and state in PASSING
    if not is_news(machine, state, reason):
        assert resting or under_way or machine.refused


@given(machines(), SIGHTS)
def test_a_wish_is_fulfilled_in_a_few_steps(machine: Machine, sight: Sight) -> None:
    """A node that does what it is told brings every machine to rest."""
    seen: Seen = replace(sight, epoch=2) if machine.told_generation else Absent()
    there = False
    for _ in range(6):
        decision = next_step(machine, seen, there)
        if not isinstance(decision, Act):
            return
        machine = replace(machine, state=decision.during, refused=False)
        match decision.step:
            case Step.DISTRIBUTE:
                there = True
            case Step.CREATE | Step.TELL:
                machine, seen = replace(machine, told_generation=machine.generation), replace(OURS, epoch=2)
            case Step.REMOVE:
                machine, seen = replace(machine, told_generation=machine.generation), Absent()
    raise AssertionError(f"it never comes to rest: {machine}")


def test_what_is_not_as_wished_for_good_says_why_also_where_its_node_does_not() -> None:
    machine = replace(NEW, wish=Wish.STOPPED, state=State.RUNNING, told_generation=1, settled_generation=1)
    found = Sight(State.RUNNING, settled=True, epoch=machine.epoch)
    rest = next_step(machine, found, image_there=True)
    assert rest == Mirror(State.RUNNING, "it is running on node n1, which does not say why")
    known = replace(machine, reason="only a running machine can be paused")
    assert next_step(known, found, image_there=True) == Mirror(State.RUNNING, known.reason)
    passing = next_step(machine, replace(found, settled=False), image_there=True)
    assert passing == Mirror(State.RUNNING, settled=False)


@pytest.mark.parametrize(
    ("reason", "coming"),
    [
        ("no; attempt 2 of 6 to start it was refused, again in 10 s", True),
        ("no; attempt 9 to make it was refused, again in 120 s", True),
        ("exited with code 3; restart 1 of 5 now", True),
        ("no; gave up after 6 attempts to start it", False),
    ],
)
def test_what_its_dead_node_would_have_started_again_is_lost_with_it(reason: str, coming: bool) -> None:
    machine = replace(NEW, state=State.FAILED, reason=reason)
    assert (reason_of_loss(machine, "lost with node n1: it is dead") != reason) is coming
