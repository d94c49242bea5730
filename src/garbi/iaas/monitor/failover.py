"""Whether machines of dead nodes are started elsewhere, or too much seems dead at once to believe it. No I/O, no clock."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from garbi.hyper_api.vocabulary import NodeFailurePolicy, State, Wish
from garbi.iaas.model.machine import Machine, Moving
from garbi.iaas.model.node import NodeState
from garbi.iaas.monitor.verdict import SILENT, WATCHED

RECENTLY_S = 600.0
"""How long a node that was proven dead still counts among those that seem dead at once; and who fell silent by so much apart from
all others did not fall silent with them."""

KEPT_S = 7 * 24 * 3600
"""How long the disk of a machine that was created again elsewhere is kept on the node that was dead."""

FEW, MANY = 2, 3
"""Fewer are no mass failure, however small the cloud; so many are one, however large it is."""

UP = (Wish.RUNNING, Wish.PAUSED)
RESTARTS = re.compile(
    r"; restart [0-9]+ of [0-9]+ |; attempt [0-9]+ (of [0-9]+ )?to (make|start) it was refused, again "
)
"""In the reason of a machine that failed and whose host is about to start it again, or to try once more."""

LOST = "lost with node"
"""How the reason of a machine begins that stopped because its node is dead; it goes on with the name of the node."""


UNPROVEN = "; not proven dead: "
STOPPED = "; too many at once: "
"""What follows them in the reason of a silent node is what is done about it."""


@dataclass(frozen=True, slots=True)
class Condition:
    """A node, and for how many seconds it has been in its state; `silent_s` is for how long it has said nothing, where that is
    another time: it is said to be dead some time after it fell silent."""

    name: str
    state: NodeState
    for_s: float
    silent_s: float | None = None

    @property
    def quiet_s(self) -> float:
        """For how many seconds a silent node has said nothing."""
        return self.for_s if self.silent_s is None else self.silent_s


@dataclass(frozen=True, slots=True)
class MassFailure:
    """So many nodes seem dead at once that something else is likelier: a switch, a cable, the controller's own network."""

    dead: tuple[str, ...]
    nodes: int

    def words(self) -> str:
        """What is said of it, and what to do."""
        return (
            f"{len(self.dead)} of {self.nodes} nodes seem dead at once ({', '.join(self.dead)}): nothing is fenced or moved; "
            "look at the network first, then say of each host that is off: iaas node confirm-dead NAME"
        )


def too_many_dead(conditions: Iterable[Condition]) -> MassFailure | None:
    """The mass failure, when two nodes or more, and a third of all or three, seem dead; None when fewer do.

    Who fell silent long before or after any other does not count, neither as dead nor as one of all. Those that fell silent
    together count for as long as they are silent.
    """
    present = [each for each in conditions if each.state in WATCHED]
    gone = long_gone(present)
    watched = [each for each in present if each.name not in gone]
    dead = sorted(each.name for each in watched if each.state in SILENT)
    if len(dead) < FEW or (3 * len(dead) < len(watched) and len(dead) < MANY):
        return None
    return MassFailure(tuple(dead), len(watched))


def long_gone(conditions: Iterable[Condition]) -> frozenset[str]:
    """The silent nodes whose silence says nothing of the others: they fell silent alone and long ago, or were proven dead."""
    silent = [each for each in conditions if each.state in SILENT]
    return frozenset(each.name for each in silent if _is_long_gone(each, silent))


def plain(reason: str) -> str:
    """The reason of a silent node without what is done about it."""
    return reason.partition(UNPROVEN)[0].partition(STOPPED)[0]


def lost_reason(node: str, words: str) -> str:
    """The reason of a machine that stopped because its node is dead."""
    return f"{LOST} {node}: {words}"


def is_lost(machine: Machine) -> bool:
    """Whether it is proven that a machine, whose node is unavailable, runs there no more.

    Every proof covers machines that may be created again elsewhere; others are covered when their reason says so.
    """
    return machine.on_node_failure is NodeFailurePolicy.RECREATE or f"{LOST} {machine.node}" in machine.reason


def reason_of_loss(machine: Machine, lost: str) -> str:
    """The reason of a machine whose loss is proven. What had failed by itself, and was not to be started again, says so still."""
    if machine.state is not State.FAILED or RESTARTS.search(machine.reason) or machine.moving is not Moving.NO:
        return lost
    stays = machine.on_node_failure is NodeFailurePolicy.STAY
    return f"{machine.reason}; {lost}" if stays and not is_lost(machine) else machine.reason


def is_wished_again(machine: Machine) -> bool:
    """Whether a machine that a drain has stopped is to run again when its node dies: else a drain would have done less than
    that."""
    return machine.drained is not None and machine.on_node_failure is NodeFailurePolicy.RECREATE


def after_loss(machine: Machine, lost: str) -> Machine:
    """What a machine would be once its loss is proven."""
    if machine.moving is Moving.GONE:  # nothing of it was there
        return machine
    wish = Wish.RUNNING if is_wished_again(machine) else machine.wish
    return replace(machine, wish=wish, state=State.FAILED, reason=reason_of_loss(machine, lost))


def ended_by_itself(machine: Machine) -> bool:
    """Whether a machine failed for a reason of its own, and is not about to be started again: nobody revives that unasked."""
    if machine.state is not State.FAILED or RESTARTS.search(machine.reason):
        return False
    return not machine.reason.startswith(LOST)


def is_stranded(machine: Machine) -> bool:
    """Whether a machine whose node is unavailable is to be created again elsewhere. What had failed by itself is not."""
    lost = machine.reason.startswith(f"{LOST} {machine.node}")
    if machine.moving is not Moving.NO:  # it was on its way already
        return machine.wish is not Wish.REMOVED and (lost or machine.moving is Moving.GONE)
    if machine.on_node_failure is not NodeFailurePolicy.RECREATE or machine.wish not in UP:
        return False
    return machine.state in (State.FAILED, State.STOPPED) and lost


def _is_long_gone(condition: Condition, silent: Sequence[Condition]) -> bool:
    if _is_proven(condition):
        return True
    if condition.state is NodeState.UNAVAILABLE or condition.quiet_s < RECENTLY_S:
        return False
    others = (each for each in silent if each is not condition and not _is_proven(each))
    return not any(abs(each.quiet_s - condition.quiet_s) < RECENTLY_S for each in others)


def _is_proven(condition: Condition) -> bool:
    """Whether a node has been known to be dead for so long that nothing follows from it for others."""
    return condition.state is NodeState.UNAVAILABLE and condition.for_s >= RECENTLY_S
