"""Decides the next step of a machine of the cloud, and nothing else moves one: first order, restart and repair are one path.

Values in, a value out: no I/O, no clock. The converger (loops) records each step, does it, and asks again.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from garbi.hyper_api.vocabulary import NodeFailurePolicy, State, Wish
from garbi.iaas.model.machine import REACHED, Machine, Moving


class Step(StrEnum):
    """One thing to be asked of a machine's node; every step may be repeated."""

    DISTRIBUTE = "distribute"
    CREATE = "create"
    TELL = "tell"
    REMOVE = "remove"
    LEAVE = "leave"
    """Remove it where it is, because it goes elsewhere."""

    CONFIRM = "confirm"
    """Ask whether nothing of it is there: neither a row nor, at the engine, a machine."""


@dataclass(frozen=True, slots=True)
class Sight:
    """What a node says of a machine.

    `epoch` is that of the assignment that made it; None: the node has it from somebody else. `going`: it was told to remove it.
    """

    state: State
    settled: bool
    reason: str = ""
    address: str | None = None
    epoch: int | None = None
    going: bool = False


class Certainty(StrEnum):
    """Whether nothing is left of a machine that its node does not list."""

    NOT_ASKED = "not-asked"
    UNSURE = "unsure"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Absent:
    """The node answers, and does not list such a machine, which alone proves nothing; `why` it may be there all the same."""

    certainty: Certainty = Certainty.NOT_ASKED
    why: str = ""


@dataclass(frozen=True, slots=True)
class Silent:
    """The node does not answer, or may not be asked."""


@dataclass(frozen=True, slots=True)
class Lost:
    """It is proven that nothing of the machine runs on its node, which is unavailable; something of it may lie there."""


Seen = Sight | Absent | Silent | Lost


@dataclass(frozen=True, slots=True)
class Act:
    """Take `step`; while it is being done the machine's state is `during`."""

    step: Step
    during: State


@dataclass(frozen=True, slots=True)
class Mirror:
    """Nothing is to be done: the machine is in `state`, for this reason; `settled` when no more is to be expected."""

    state: State
    reason: str = ""
    address: str | None = None
    settled: bool = True


@dataclass(frozen=True, slots=True)
class Gone:
    """Nothing of the machine is left on its node: its record may go too."""


@dataclass(frozen=True, slots=True)
class Vacate:
    """Nothing of the machine, which is still to be, is left on its node: write that down, and have it made again.

    `here`: on the same node, as long as that takes machines; else wherever it fits.
    """

    here: bool


@dataclass(frozen=True, slots=True)
class Await:
    """Nothing can be said now; the node's next word will bring the machine back here."""


Decision = Act | Mirror | Gone | Vacate | Await

DISAPPEARED = "it disappeared from node"
"""How the reason begins when a node has lost a machine."""

NEVER_AGAIN = "its disk went with it, and by its policy (stay) it is not made from its image again"

HELD = "held: "
"""How a node's reason begins when a machine may not run there before it is told once more."""

UP = (Wish.RUNNING, Wish.PAUSED)
PASSING = (State.CREATING, State.STARTING, State.STOPPING, State.REMOVING)
"""States in which a node has something to do with a machine."""


def next_step(machine: Machine, seen: Seen, image_there: bool) -> Decision:
    """Decide what to do about a machine, from its wish, what its node was told, and what its node says of it.

    `image_there` tells that the node was seen to have the content that the machine is made from.
    """
    if machine.wish is Wish.REMOVED:
        return _toward_removed(machine, seen)
    if machine.moving is not Moving.NO:
        return _toward_elsewhere(machine, seen)
    if isinstance(seen, Lost):
        return _without_node(machine)
    if machine.told_generation == 0:
        return _toward_created(machine, seen, image_there)
    return Await() if isinstance(seen, Silent) else _as_seen(machine, seen)


def is_off(machine: Machine, seen: Seen) -> bool:
    """Whether a machine is not as its node says, so that something is to be done or written down."""
    decision = next_step(machine, seen, image_there=False)
    if isinstance(decision, Mirror):
        found = (decision.state, decision.reason, decision.address)
        return found != (machine.state, machine.reason, machine.address) or decision.settled is not machine.settled
    return not isinstance(decision, Await)


def is_news(machine: Machine, state: State, reason: str) -> bool:
    """Whether an event of its node says of a machine what is not written down, so that the node has to be asked."""
    settled = state not in PASSING or machine.settled
    return is_off(machine, Sight(state, settled, reason, machine.address, machine.epoch))


def nothing_sent(machine: Machine) -> bool:
    """Whether it is certain that no order for this machine has left for its node, so that nobody has to be asked."""
    return machine.told_generation == 0 and (machine.refused or machine.state is State.PENDING)


def _toward_removed(machine: Machine, seen: Seen) -> Decision:
    # What lies on a dead node is removed when that is back.
    if nothing_sent(machine) or machine.moving is Moving.GONE or isinstance(seen, Lost):
        return Gone()
    if isinstance(seen, Silent):
        return Await()
    if isinstance(
        seen, Absent
    ):  # what its agent has no record of, an engine may have: it is asked before the record goes
        told = machine.told_generation == machine.generation
        return Gone() if told else Act(Step.REMOVE, State.REMOVING)
    if seen.epoch is None:  # somebody else's machine of that name is none of our business
        return Gone()
    if seen.going and machine.told_generation == machine.generation:
        return Mirror(State.REMOVING, seen.reason, settled=seen.settled)
    return Act(Step.REMOVE, State.REMOVING)


def _without_node(machine: Machine) -> Decision:
    """What becomes of a machine while its node is dead: one that is to run is created elsewhere, where its policy lets it."""
    if machine.wish in UP and machine.on_node_failure is NodeFailurePolicy.RECREATE:
        return Await()
    state = State.FAILED if machine.wish in UP else State.STOPPED
    return Mirror(machine.state if machine.settled else state, machine.reason)


def _toward_elsewhere(machine: Machine, seen: Seen) -> Decision:
    """A machine that is to leave its node: what was begun is completed, and it goes nowhere before it is gone for certain."""
    if machine.moving is Moving.GONE or isinstance(seen, Lost | Silent):
        return Await()
    if nothing_sent(machine):
        return Vacate(here=False)
    if isinstance(seen, Absent):
        return _unlisted(machine, seen, Vacate(here=False))
    if seen.epoch is None or seen.epoch > machine.epoch:
        return Mirror(
            State.FAILED, f"another machine of that id is on node {machine.node}: whether this one is gone is not known"
        )
    if seen.going:
        return Mirror(State.REMOVING, seen.reason or machine.moving_why, settled=False)
    return Act(Step.LEAVE, State.REMOVING)


def _unlisted(machine: Machine, seen: Absent, then: Vacate) -> Decision:
    """Of a machine that its node does not list, that its engine has nothing either has to be known before it is made again."""
    if seen.certainty is Certainty.NOT_ASKED:
        return Act(Step.CONFIRM, machine.state)
    if seen.certainty is Certainty.GONE:
        return then
    return Mirror(State.FAILED, f"{DISAPPEARED} {machine.node}, perhaps: {seen.why}")


def _as_seen(machine: Machine, seen: Sight | Absent) -> Decision:
    if isinstance(seen, Absent) or seen.epoch != machine.epoch:
        return _disappeared(machine, seen)
    held = machine.wish is Wish.RUNNING and seen.settled and seen.reason.startswith(HELD)
    if machine.told_generation < machine.generation or held:
        return Act(Step.TELL, machine.state)
    return Mirror(seen.state, _why(machine, seen), seen.address, seen.settled)


def _why(machine: Machine, seen: Sight) -> str:
    """Why a machine is as its node says; one that is not as it is wished, for good, always has a reason."""
    if seen.reason or not seen.settled or seen.state is REACHED.get(machine.wish):
        return seen.reason
    known = machine.state is seen.state and machine.reason
    return known or f"it is {seen.state} on node {machine.node}, which does not say why"


def _disappeared(machine: Machine, seen: Sight | Absent) -> Decision:
    """A machine that its node was told of and has no more: one that comes from its image is made again, if it is to run."""
    again = machine.wish in UP and machine.on_node_failure is NodeFailurePolicy.RECREATE
    if again and isinstance(seen, Absent):
        return _unlisted(machine, seen, Vacate(here=True))
    if again and isinstance(seen, Sight) and seen.epoch is not None and seen.epoch < machine.epoch:
        return Await() if seen.going else Act(Step.REMOVE, machine.state)
    why = f"; {NEVER_AGAIN}" if machine.on_node_failure is NodeFailurePolicy.STAY else ""
    return Mirror(State.FAILED, f"{DISAPPEARED} {machine.node}{why}")


def _toward_created(machine: Machine, seen: Seen, image_there: bool) -> Decision:
    if machine.settled and machine.refused:
        return Mirror(machine.state, machine.reason)
    if isinstance(seen, Silent):
        return Await()
    if isinstance(seen, Sight) and seen.epoch == machine.epoch:  # it was created, and that was not written down
        return Act(Step.TELL, machine.state)
    if isinstance(seen, Sight) and seen.epoch is not None:  # what an earlier assignment left
        return Await() if seen.going else Act(Step.REMOVE, State.CREATING)
    if machine.image_sha256 and not image_there:
        return Act(Step.DISTRIBUTE, State.CREATING)
    return Act(Step.CREATE, State.CREATING)  # of the name of somebody else's machine, too: the node says who has it
