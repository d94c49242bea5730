"""Decides whether a lease still lets machines run: pure, and the same for the agent and for the watchdog.

A lease that was not renewed has ended, unless most nodes miss the controller too: then it is the controller that is down, and
nothing stops for that. A controller counts on this: what it calls proven, it calls so `ttl_s` and a margin after the last
moment at which most nodes may have missed it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from garbi.hyper.leases.record import Lease

VALID_S = 5.0
"""How long the word of another node counts."""

PAIR = 2
"""Of so many nodes each has one other voice beside the controller's. If that misses the controller too, both run on; a node
that does not hear it ends what it has, so the controller arms the leases of two only while they hear each other."""

ROUND_TRIP_S = 3.0
"""How much later than a node itself a controller may believe that it renewed the node's lease: its limit for an answer."""

PATIENT = 0.75
"""Of how much of a lease a controller may have been missed at most before that counts: who misses it for half of one can tell
already (a controller that goes on then sees the gap), and once a whole one is over it must be clear.
"""


class Verdict(StrEnum):
    """What a lease lets its machines do."""

    RUN = "run"
    HOLD_ON = "hold-on"
    ENDED = "ended"
    FENCED = "fenced"
    LAPSED = "lapsed"


ACTIVE = (Verdict.RUN, Verdict.HOLD_ON)
"""The verdicts under which machines run."""

WORDS = {
    Verdict.ENDED: "its lease was not renewed in time",
    Verdict.FENCED: "its lease was ended",
    Verdict.LAPSED: "its lease was not renewed since the host booted",
}
"""Why machines may not run."""


@dataclass(frozen=True, slots=True)
class Word:
    """What another node said at `at` or later: its own lease was last renewed `age_s` seconds before."""

    age_s: float
    at: float


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the other nodes said: the last word of each, and the last moment at which most certainly missed the controller.

    Before anybody was asked (`asked`) nothing is judged to have ended.
    """

    words: Mapping[str, Word] = field(default_factory=dict)
    missed_at: float | None = None
    asked: bool = False


NOTHING_SAID = Evidence()


def judge(lease: Lease, boot_id: str, now: float, evidence: Evidence = NOTHING_SAID) -> Verdict:
    """Decide whether machines of a lease may run at the moment `now` of boot `boot_id`."""
    if lease.fenced >= lease.number:
        return Verdict.FENCED
    if lease.boot_id != boot_id:
        return Verdict.LAPSED
    end = end_of(lease, evidence)
    if end is None or now <= end or not evidence.asked:
        return Verdict.RUN
    return Verdict.HOLD_ON if _most_miss_it(lease, now, evidence) else Verdict.ENDED


def end_of(lease: Lease, evidence: Evidence) -> float | None:
    """When the lease ends: a controller that was missed by most has as long again, to be heard by all."""
    if not lease.armed or lease.expiry is None:
        return None
    if evidence.missed_at is None:
        return lease.expiry
    return max(lease.expiry, evidence.missed_at + lease.ttl_s)


def heard(lease: Lease, now: float, before: Evidence, said: Mapping[str, float], at: float) -> Evidence:
    """The evidence after another round of questions, which began at `at`: `said` are the ages of those who answered."""
    words = {peer: word for peer, word in before.words.items() if peer in lease.peers}
    words |= {peer: Word(age_s, at) for peer, age_s in said.items() if peer in lease.peers}
    after = replace(before, words=words, asked=True)
    missed_at = _missed_at(lease, now, after)
    if missed_at is None or (before.missed_at is not None and before.missed_at >= missed_at):
        return after
    return replace(after, missed_at=missed_at)


def majority(lease: Lease) -> int:
    """How many nodes are most of the cloud."""
    return lease.nodes // 2 + 1


def _most_miss_it(lease: Lease, now: float, evidence: Evidence) -> bool:
    missing = sum(word.age_s >= lease.ttl_s / 2 for word in _valid(evidence.words.values(), now))
    return missing + 1 >= majority(lease)


def _missed_at(lease: Lease, now: float, evidence: Evidence) -> float | None:
    """The last moment at which so many had missed the controller for so long that it must have known itself."""
    patience_s = min(lease.ttl_s / 2 + VALID_S + ROUND_TRIP_S, PATIENT * lease.ttl_s)
    own = [] if lease.renewed is None else [Word(now - lease.renewed, now)]
    words = [*_valid(evidence.words.values(), now), *own]
    moments = sorted((word.at for word in words if word.age_s >= patience_s), reverse=True)
    needed = majority(lease)
    return moments[needed - 1] if len(moments) >= needed else None


def _valid(words: Iterable[Word], now: float) -> list[Word]:
    return [word for word in words if now - word.at <= VALID_S]
