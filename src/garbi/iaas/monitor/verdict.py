"""Whether a node is reachable: from how long it has been silent. Silence is not death: nothing more follows from it here."""

from __future__ import annotations

from enum import StrEnum

from garbi.base.errors import GarbiError, ServerUnreachable, Unauthenticated
from garbi.iaas.model.node import Failure, Node, NodeState


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


RETURNING = (*SILENT, NodeState.FAILED)
"""The states of nodes that take machines again once their own agents answer and what is left there was dealt with."""


def is_watched(node: Node) -> bool:
    """Whether a node is asked how it is: also one that failed for no other reason than what answered there, or did not."""
    return node.state in WATCHED or (node.state is NodeState.FAILED and node.failure is Failure.AGENT)


def complaint(name: str, error: GarbiError, since: str) -> str:
    """What is said of a node that has not answered as it should; `since` is "since …", or "yet"."""
    words = error.detail.removeprefix(f"node {name}: ")
    if isinstance(error, Unauthenticated):
        mend = f"if it was made anew on its host: iaas node set {name} --token-file FILE"
        return f"its agent refuses the token of this controller, no answer {since}; {mend}"
    if isinstance(error, ServerUnreachable):
        return f"no answer {since}: {words}"
    return f"no fit answer {since}: {words}"


def judge(seen_at: float, now: float, unreachable_after_s: float) -> Reach:
    """The verdict on a node that last answered at `seen_at`; both moments in seconds on a clock that never goes back."""
    return Reach.UNREACHABLE if now - seen_at > unreachable_after_s else Reach.REACHABLE


def state_after(state: NodeState, draining: bool, reach: Reach) -> NodeState:
    """The state of a node of which that is said. A node that is being removed or was never met stays what it is."""
    if reach is Reach.UNREACHABLE:
        return NodeState.UNREACHABLE if state in (NodeState.READY, NodeState.DRAINING, NodeState.FAILED) else state
    if state in RETURNING:
        return NodeState.DRAINING if draining else NodeState.READY
    return state
