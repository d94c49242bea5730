"""What a fence is: what proves that machines of a node have stopped, and the chain that tries one after the other."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from garbi.base.errors import FenceFailed
from garbi.base.tally import Tally
from garbi.hyper_api.vocabulary import NodeFailurePolicy
from garbi.iaas.model.machine import Machine
from garbi.iaas.model.node import Node
from garbi.iaas_api.placement import Scope as Scope

log = logging.getLogger(__name__)

TRIED = "fences_tried"
"""What is counted of fences that were tried, by their names and by whether they proved something."""


@dataclass(frozen=True, slots=True)
class Proof:
    """What it covers has stopped on the node, and starts there no more without a word of the controller.

    `by` names the fence (`ssh`, `power`, `lease`, or `user` for the operator's word), `words` say for people what was seen.
    `stopped` and `left` are the machines that the host says it ended, and those that it did not touch: what it left is not
    covered, whatever is known of it elsewhere. `only`: the proof covers no others than these (None: all of its scope).
    """

    by: str
    scope: Scope
    words: str
    stopped: frozenset[str] = frozenset()
    left: frozenset[str] = frozenset()
    only: frozenset[str] | None = None

    def covers(self, machine: Machine) -> bool:
        """Whether a machine of the node has stopped, by this proof."""
        if machine.id in self.left or (self.only is not None and machine.id not in self.only):
            return False
        return self.scope is Scope.ALL or machine.on_node_failure is NodeFailurePolicy.RECREATE


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a fence could prove of a node: what that covers, and within how many seconds, counted from when it is tried, or
    from the last answer of the node (`since_heard`). `why_not` says why it could not as things are now, though it applies."""

    scope: Scope
    takes_s: float
    since_heard: bool = False
    why_not: str = ""


@dataclass(frozen=True, slots=True)
class Attempt:
    """A fence that gave no proof, and why; `tried` is false where it does not apply to the node."""

    fence: str
    words: str
    tried: bool = True


class Fence(Protocol):
    """One way to a proof."""

    @property
    def name(self) -> str:
        """One word, for events and for people."""

    def applies_to(self, node: Node) -> str | None:
        """None when it may be tried on this node; else why not. Quick, does no I/O over the network."""

    def outlook(self, node: Node) -> Outlook:
        """What it could prove of this node, to which it applies, if that fell silent now. Quick, and without any effect."""

    def prove(self, node: Node, cancelled: threading.Event) -> Proof:
        """Stop the machines and prove it; blocks, within limits of its own, and ends soon once `cancelled` is set.

        Fences off the node's present lease (`node.lease`). Can be repeated at any time. Raises FenceFailed: nothing is proven.
        """


class Fences:
    """The fences of a controller, tried in their order. None is while `barred` says why."""

    def __init__(
        self, fences: Sequence[Fence], tally: Tally | None = None, barred: Callable[[], str | None] = lambda: None
    ) -> None:
        self._fences = tuple(fences)
        self._tally = tally or Tally()
        self._barred = barred

    def __iter__(self) -> Iterator[Fence]:
        return iter(self._fences)

    def barred(self) -> str | None:
        """Why none is tried now; None when they are."""
        return self._barred()

    def prove(self, node: Node, cancelled: threading.Event) -> Proof | tuple[Attempt, ...]:
        """The first proof, or what each fence said instead. Never raises: a fence that breaks has proven nothing."""
        why_not = self._barred()
        if why_not is not None:
            return (Attempt("no fence is tried", why_not, tried=False),)
        attempts: list[Attempt] = []
        for fence in self._fences:
            if cancelled.is_set():
                attempts.append(Attempt(fence.name, "it was cancelled", tried=False))
                continue
            outcome = _try(fence, node, cancelled)
            if isinstance(outcome, Proof) or outcome.tried:
                self._tally.count(TRIED, fence.name, "proven" if isinstance(outcome, Proof) else "failed")
            if isinstance(outcome, Proof):
                return outcome
            attempts.append(outcome)
        return tuple(attempts)


def explain(attempts: Sequence[Attempt]) -> str:
    """What the fences said, on one line: "ssh: no answer within 2 s; power: no power program is set"."""
    return "; ".join(f"{each.fence}: {' '.join(each.words.split())}" for each in attempts) or "there is no fence"


def _try(fence: Fence, node: Node, cancelled: threading.Event) -> Proof | Attempt:
    try:
        why_not = fence.applies_to(node)
        if why_not is not None:
            return Attempt(fence.name, why_not, tried=False)
        return fence.prove(node, cancelled)
    except FenceFailed as error:
        return Attempt(fence.name, error.detail)
    except Exception as error:  # a fault in one fence must neither stop the next one nor count as a proof
        log.exception("fence %s of node %s broke", fence.name, node.name)
        return Attempt(fence.name, f"it broke: {type(error).__name__}: {error}")
