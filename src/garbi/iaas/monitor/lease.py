"""What the lease of a node proves to the controller that gave it: that the host has stopped what may be created again elsewhere.

A host counts its lease on its own clock, from a moment that it had told and that the controller sent back. So a lease ends at
the latest its whole length after the last answer of the host, however long messages were on their way. Values in, values out:
no I/O, no clock; moments are seconds on the controller's clock.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

SURE = 2
"""Answers in a row after which no earlier request, still on its way, can change what was agreed: the second one was to a
request that spoke of the first."""

FEWEST_NODES = 3
"""Of two nodes, one that hears nobody cannot tell whether it is cut off or the controller is down."""


@dataclass(frozen=True, slots=True)
class Ledger:
    """What was asked of one node and what it answered.

    `heard_at` is when its last answer came; before the first one, when the controller began. `arm` and `peers` are what it was
    last asked: whether its lease ends by itself, and whom it asks whether the controller is down. `confirmed` counts the
    answers in a row that agreed to just that.
    """

    heard_at: float
    arm: bool = False
    peers: frozenset[str] = frozenset()
    confirmed: int = 0

    @property
    def armed(self) -> bool:
        """Whether the lease is known to end by itself."""
        return self.arm and self.confirmed >= SURE


@dataclass(frozen=True, slots=True)
class Fresh:
    """The times in which a peer would say that it hears the controller: without a gap `since` then, and at least `until` then."""

    since: float
    until: float


def asked(ledger: Ledger, arm: bool, peers: frozenset[str]) -> Ledger:
    """The ledger once this is on its way: what is asked anew is not agreed to yet."""
    if (arm, peers) == (ledger.arm, ledger.peers):
        return ledger
    return replace(ledger, arm=arm, peers=peers, confirmed=0)


def answered(ledger: Ledger, now: float, armed: bool) -> Ledger:
    """The ledger once the node has answered to what it was last asked."""
    return replace(ledger, heard_at=now, confirmed=min(ledger.confirmed + 1, SURE) if armed is ledger.arm else 0)


def may_arm(nodes: int, guarded: bool, peers_heard: int) -> bool:
    """Whether the lease of a node may end by itself: a watchdog is there to end it, and with the peers that it hears the node can
    tell being cut off from a controller that is down. `nodes` are all that are watched."""
    return nodes >= FEWEST_NODES and guarded and peers_heard >= nodes // 2


def renewed(fresh: Fresh | None, sent: float, now: float, span: float) -> Fresh:
    """What is known of a peer that has answered `now` to a renewal `sent` then; it says for `span` seconds that it heard one."""
    if fresh is None or fresh.until < now:
        return Fresh(now, sent + span)
    return Fresh(fresh.since, max(fresh.until, sent + span))


def quorum_since(peers: Collection[str], fresh: Mapping[str, Fresh], now: float) -> float | None:
    """Since when so many of a node's peers hear the controller that it cannot find a majority that does not; None: they are too
    few now. The node itself counts as one that does not."""
    needed = math.ceil((len(peers) + 1) / 2)
    hearing = sorted(fresh[peer].since for peer in peers if peer in fresh and now < fresh[peer].until)
    return hearing[needed - 1] if len(hearing) >= needed else None


def ends_at(ledger: Ledger, since: float, began: float, ttl_s: float, margin_s: float) -> float:
    """From when on the lease of a silent node has ended for certain; `since` is that of the quorum, `began` the moment at which
    this controller took over from the one before it."""
    return max(ledger.heard_at, since, began) + ttl_s + margin_s


def doubt(ledger: Ledger, since: float | None, now: float, began: float, ttl_s: float, margin_s: float) -> str | None:
    """Why it is not proven that the machines of a silent node have stopped; None when it is."""
    if not ledger.armed:
        return "its lease does not end by itself"
    if since is None:
        return "too few of the other nodes answer: it may take the controller for dead and go on"
    left = ends_at(ledger, since, began, ttl_s, margin_s) - now
    return f"its lease has ended for certain in {math.ceil(left)} s" if left > 0 else None


def proven(ledger: Ledger, since: float | None, now: float, began: float, ttl_s: float, margin_s: float) -> bool:
    """Whether the machines of a silent node that may be created again elsewhere have stopped."""
    return doubt(ledger, since, now, began, ttl_s, margin_s) is None
