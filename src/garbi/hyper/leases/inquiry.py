"""Asks the other nodes when they last heard a controller: seldom while all is well, often when a lease is about to end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from garbi.hyper.leases.record import Lease
from garbi.hyper.leases.verdict import NOTHING_SAID, PAIR, VALID_S, Evidence, heard

PACE_S = 2.0
"""Pause between two rounds of questions, once a lease is half over."""

CALM_PACE_S = 30.0
"""The same while the lease is renewed: it is only to be known who can be reached."""

PAIR_PACE_S = 3.0
"""The same where there is one other node alone: once it cannot be reached, this lease must not end by itself any more."""

ROUNDS, STALE_S = 3, VALID_S - 1.0
"""A round that took so long is repeated at once, so often in all: what others said is old by then."""

Ask = Callable[[str, str, Sequence[str]], Mapping[str, float]]
"""Asks, with the id of a controller and the witness key of its lease, those peers how many seconds ago each was renewed.

Returns the ages of those that answered within two seconds, by peer; never raises.
"""


class Inquiry:
    """What the other nodes said about one controller. For one thread that asks; others may read `evidence`."""

    def __init__(self, ask: Ask, clock: Callable[[], float]) -> None:
        self._ask = ask
        self._clock = clock
        self._asked_at: float | None = None
        self._asked_peers: tuple[str, ...] = ()
        self._answered: frozenset[str] = frozenset()
        self.evidence: Evidence = NOTHING_SAID

    def peers_heard(self, lease: Lease) -> int:
        """How many of the other nodes that a lease has now answered the last time they were asked."""
        return sum(peer in self._answered for peer in lease.peers)

    def pursue(self, lease: Lease, calm: bool = False) -> None:
        """Ask, if it is time to; with `calm` also while the lease is not in danger."""
        at = self._clock()
        if not self._due(lease, at, calm):
            return
        for _ in range(ROUNDS):
            at = self._clock()
            said = self._ask(lease.controller, lease.witness_key, lease.peers) if lease.peers else {}
            if self._clock() - at < STALE_S:
                break  # else it was kept from the processor: what was said so long ago counts no more
        self._asked_at, self._asked_peers = at, lease.peers
        self._answered = frozenset(said)
        self.evidence = heard(lease, self._clock(), self.evidence, said, at)

    def _due(self, lease: Lease, now: float, calm: bool) -> bool:
        endangered = lease.armed and lease.seen is not None and now - lease.seen >= lease.ttl_s / 2
        if not endangered and not calm:
            return False
        if self._asked_at is None or self._asked_peers != lease.peers:
            return True
        calm_s = PAIR_PACE_S if lease.nodes == PAIR else CALM_PACE_S
        return now - self._asked_at >= (self._urgent_pace(lease, now) if endangered else calm_s)

    def _urgent_pace(self, lease: Lease, now: float) -> float:
        """When most miss the controller, the lease goes on for long: nobody has to be asked again at once."""
        missed_at = self.evidence.missed_at
        sure = missed_at is not None and now - missed_at < lease.ttl_s / 2
        return max(PACE_S, lease.ttl_s / 4) if sure else PACE_S
