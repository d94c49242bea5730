"""Whether a node is reachable: from how long it has been silent. Silence is not death: nothing more follows from it here."""

from __future__ import annotations

from enum import StrEnum

from garbi.iaas.model.node import NodeState


class Reach(StrEnum):
    """What is said of a node."""

    REACHABLE = "reachable"
    UNREACHABLE = "unreachable"


WATCHED = (NodeState.READY, NodeState.DRAINING, NodeState.UNREACHABLE, NodeState.UNAVAILABLE, NodeState.REMOVING)
"""The states of nodes that are asked how they are."""

TRUSTED = (NodeState.READY, NodeState.DRAINING, NodeState.REMOVING)
"""The states of nodes that are given orders."""


SILENT = (NodeState.UNREACHABLE, NodeState.UNAVAILABLE)
"""The states of nodes that did not answer when they were last asked."""


def judge(seen_at: float, now: float, unreachable_after_s: float) -> Reach:
    """The verdict on a node that last answered at `seen_at`; both moments in seconds on a clock that never goes back."""
    return Reach.UNREACHABLE if now - seen_at > unreachable_after_s else Reach.REACHABLE


def state_after(state: NodeState, draining: bool, reach: Reach) -> NodeState:
    """The state of a node of which that is said. A node that is being removed or was never met stays what it is."""
    if reach is Reach.UNREACHABLE:
        return NodeState.UNREACHABLE if state in (NodeState.READY, NodeState.DRAINING) else state
    if state in (NodeState.UNREACHABLE, NodeState.UNAVAILABLE):
        return NodeState.DRAINING if draining else NodeState.READY
    return state
