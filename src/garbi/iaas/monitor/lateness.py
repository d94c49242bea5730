"""How long hosts that do not get the processor are waited for, and how long their leases are. No I/O, no clock.

Who is late by itself is not silent. Only the controller lengthens a lease: it knows then for how long a host may run machines.
"""

from __future__ import annotations

from dataclasses import dataclass

REMEMBERED_S = 300.0
"""For how long a delay counts after it was last as long: leases of changing length help nobody."""

LONGEST_DELAY_S = 120.0
PROMPT_S = 1.0
"""An answer that took no longer is no late one."""

DELAYS = 8.0
"""So many delays fit into a lease: two renewals, each of which may be missed once, go there and back within it."""

DOUBLINGS = 3
LONGEST_LEASE_S = 3600.0
PATIENCE = 3.0
"""So many delays more, a host that is late is waited for before it is called silent."""


@dataclass(frozen=True, slots=True)
class Slack:
    """The worst delay of one host in the last while: how long it was, and when it was last so."""

    late_s: float = 0.0
    at: float = 0.0


def strained(slack: Slack, now: float, late_s: float) -> Slack:
    """What is remembered once a host was late by that at the moment `now`."""
    return Slack(max(late_s, 0.0), now) if late_s >= delay_of(slack, now) else slack


def delay_of(slack: Slack, now: float) -> float:
    """The delay that a host is to be granted."""
    return slack.late_s if now - slack.at < REMEMBERED_S else 0.0


def lengthened(ttl_s: float, late_s: float) -> float:
    """The length of the lease of a host that is late by that: the usual one, doubled until the delays fit."""
    length = ttl_s
    for _ in range(DOUBLINGS):
        if DELAYS * late_s <= length or 2 * length > LONGEST_LEASE_S:
            break
        length *= 2
    return length


def answer_limit_s(usual_s: float, missed: int, late_s: float, ttl_s: float) -> float:
    """How long an answer may take: each one that was missed lets the next take twice as long, and its own delay comes on top.

    Never more than a quarter of a lease: who was cut off and waits in vain renews the others too late once it is back.
    """
    return min(usual_s * (1, 2, 4)[min(missed, 2)], max(usual_s, ttl_s / 4)) + 2 * late_s


def patience_s(unreachable_after_s: float, late_s: float) -> float:
    """After how many seconds of silence a host that is late by that is unreachable."""
    return unreachable_after_s + PATIENCE * late_s
