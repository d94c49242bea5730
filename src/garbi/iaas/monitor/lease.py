"""What the lease of a node proves to the controller that gave it: that the host has stopped what may be created again elsewhere.

A host counts its lease on its own clock, from a moment that it had told and that the controller sent back. So a lease ends at
the latest its whole length after the last answer of the host, however long messages were on their way. What counts is what this
very node agreed to: whom it asks, and the longest lease that it may have been told. Values in, values out: no I/O, no clock;
moments are seconds on the controller's clock. Why it is safe is told in docs/leases.md.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

SURE = 2
"""Answers in a row after which no earlier request, still on its way, can change what was agreed: the second one was to a
request that spoke of the first."""

PAIR = 2
"""Fewer nodes than two have nobody to ask. Of two, each is the only other voice beside the controller: see `Fellow`."""

CLOCK_SHARE, KILL_S = 0.25, 5.0
"""The clock of a host may be a fifth slower than this one: a lease then takes a quarter longer. And a kill takes a moment."""


@dataclass(frozen=True, slots=True)
class Ledger:
    """What was asked of one node and what it answered.

    `heard_at` is when its last answer came; before the first one, when the controller began. `arm`, `peers` and `ttl_s` are what
    it was last asked: whether its lease ends by itself, whom it asks whether the controller is down, and how long it lasts.
    `confirmed` counts the answers in a row that agreed to just that, `told` those since the length was last another one. Until
    these are sure the lease may be any of those that it may have been told: between `shortest_s` and `longest_s`.
    """

    heard_at: float
    arm: bool = False
    peers: frozenset[str] = frozenset()
    ttl_s: float = 0.0
    confirmed: int = 0
    told: int = 0
    shortest_s: float = 0.0
    longest_s: float = 0.0

    @property
    def armed(self) -> bool:
        """Whether the lease is known to end by itself."""
        return self.arm and self.confirmed >= SURE


def begun(heard_at: float, arm: bool, peers: frozenset[str], ttl_s: float) -> Ledger:
    """The ledger of a lease of which nothing else was ever asked."""
    return Ledger(heard_at, arm, peers, ttl_s, shortest_s=ttl_s, longest_s=ttl_s)


def recalled(now: float, peers: frozenset[str], shortest_s: float, longest_s: float) -> Ledger:
    """The ledger of a node that agreed with an earlier controller that its lease ends by itself; `now` is the last moment at
    which it may have answered that one."""
    return Ledger(now, True, peers, longest_s, SURE, 0, shortest_s, longest_s)


@dataclass(frozen=True, slots=True)
class Fellow:
    """The other one of two nodes: whether it answered when it was last asked, whether it then heard the first one, and whether
    the controller lives `apart` from both, so that no host is two of the three voices."""

    answers: bool
    hears: bool
    apart: bool


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


def asked(ledger: Ledger, arm: bool, peers: frozenset[str], ttl_s: float) -> Ledger:
    """The ledger once this is on its way: what is asked anew is not agreed to yet. A lease of another length ends by itself all
    the same: it is only not known which of the lengths it has."""
    same = (arm, peers) == (ledger.arm, ledger.peers)
    if same and ttl_s == ledger.ttl_s:
        return ledger
    return replace(
        ledger,
        arm=arm,
        peers=peers,
        ttl_s=ttl_s,
        confirmed=ledger.confirmed if same else 0,
        told=0,
        shortest_s=min(ledger.shortest_s, ttl_s),
        longest_s=max(ledger.longest_s, ttl_s),
    )


def answered(ledger: Ledger, now: float, armed: bool) -> Ledger:
    """The ledger once the node has answered to what it was last asked."""
    if armed is not ledger.arm:
        return replace(ledger, heard_at=now, confirmed=0, told=0)
    after = replace(ledger, heard_at=now, confirmed=min(ledger.confirmed + 1, SURE), told=min(ledger.told + 1, SURE))
    return replace(after, shortest_s=after.ttl_s, longest_s=after.ttl_s) if after.told >= SURE else after


def may_arm(nodes: int, guarded: bool, peers_heard: int, fellow: Fellow | None = None) -> bool:
    """Whether the lease of a node may end by itself: a watchdog is there to end it, and with the peers that it hears the node can
    tell being cut off from a controller that is down. `nodes` are all whose word counts; of two the other one is `fellow`.

    One of two that hears nobody ends, always. So it must not be armed while it would hear nobody once the controller is away:
    not while the other one is off, nor while they do not hear each other, nor where one host is two of the three voices.
    """
    if nodes < PAIR or not guarded or peers_heard < nodes // 2:
        return False
    return nodes > PAIR or (fellow is not None and fellow.answers and fellow.hears and fellow.apart)


def least_margin(ttl_s: float) -> float:
    """How much later than its lease a host has stopped its machines at the latest."""
    return CLOCK_SHARE * ttl_s + KILL_S


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


def ends_at(ledger: Ledger, quorum_since: float, began: float, margin_s: float) -> float:
    """From when on the lease of a silent node has ended for certain; `began` is when this controller took over from another."""
    longest_s = ledger.longest_s
    return max(ledger.heard_at, quorum_since, began) + longest_s + max(margin_s, least_margin(longest_s))


def doubt(ledger: Ledger, quorum: Quorum | None, began: float, margin_s: float) -> str | None:
    """Why it is not proven that the machines of a silent node have stopped; None when it is."""
    if not ledger.armed:
        return "its lease does not end by itself"
    if quorum is None:
        return "too few of the other nodes answer: it may take the controller for dead and go on"
    left = ends_at(ledger, quorum.since, began, margin_s) - quorum.until
    return f"its lease has ended for certain in {math.ceil(left)} s" if left > 0 else None


def proven(ledger: Ledger, quorum: Quorum | None, began: float, margin_s: float) -> bool:
    """Whether the machines of a silent node that may be created again elsewhere have stopped."""
    return doubt(ledger, quorum, began, margin_s) is None
