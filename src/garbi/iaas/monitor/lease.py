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
    """How long a peer has been hearing the controller without a gap: `since` then, until a renewal `sent` then at least.

    `boot_id` and `moment` are what the peer answered to that: the boot of its host, and the time on its own clock.
    """

    since: float
    sent: float
    boot_id: str
    moment: float


@dataclass(frozen=True, slots=True)
class Quorum:
    """The time in which so many of a node's peers heard the controller that it could not find a majority that did not."""

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


def renewed(fresh: Fresh | None, now: float, answer: Fresh, span: float) -> Fresh:
    """What is known of a peer that has answered `now`; it says for `span` seconds that it heard a renewal.

    Both clocks have to agree that there was no gap: a controller that was frozen does not see on its own how long it was.
    """
    if fresh is None or fresh.boot_id != answer.boot_id:
        return replace(answer, since=now)
    gap = now >= fresh.sent + span or answer.moment >= fresh.moment + span
    return replace(answer, since=now if gap else fresh.since, sent=max(fresh.sent, answer.sent))


def quorum(peers: Collection[str], fresh: Mapping[str, Fresh], now: float, span: float) -> Quorum | None:
    """The quorum of a node with these peers, the node itself counted as one that does not hear; None: it is too small now."""
    needed = math.ceil((len(peers) + 1) / 2)
    hearing = [fresh[peer] for peer in peers if peer in fresh and now < fresh[peer].sent + span]
    if len(hearing) < needed:
        return None
    latest = sorted(hearing, key=lambda each: (-each.sent, each.since))[:needed]
    return Quorum(max(each.since for each in latest), latest[-1].sent)


def ends_at(ledger: Ledger, quorum_since: float, began: float, ttl_s: float, margin_s: float) -> float:
    """From when on the lease of a silent node has ended for certain; `began` is when this controller took over from another."""
    return max(ledger.heard_at, quorum_since, began) + ttl_s + margin_s


def doubt(ledger: Ledger, quorum: Quorum | None, began: float, ttl_s: float, margin_s: float) -> str | None:
    """Why it is not proven that the machines of a silent node have stopped; None when it is."""
    if not ledger.armed:
        return "its lease does not end by itself"
    if quorum is None:
        return "too few of the other nodes answer: it may take the controller for dead and go on"
    left = ends_at(ledger, quorum.since, began, ttl_s, margin_s) - quorum.until
    return f"its lease has ended for certain in {math.ceil(left)} s" if left > 0 else None


def proven(ledger: Ledger, quorum: Quorum | None, began: float, ttl_s: float, margin_s: float) -> bool:
    """Whether the machines of a silent node that may be created again elsewhere have stopped."""
    return doubt(ledger, quorum, began, ttl_s, margin_s) is None
