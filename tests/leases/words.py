"""What the tests of leases say again and again: a controller, its renewals, a clock that can be put forward."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from garbi.base.clock import SystemClock
from garbi.hyper.leases.record import Lease, Renewal

CONTROLLER = "c0" * 16
HOLDER = "aa"
KEY = "k" * 32
BOOT = "boot-1"
PEERS = ("192.0.2.2:8081", "192.0.2.3:8081")
TTL_S = 45.0

_pause = threading.Event()

RENEWAL = Renewal(
    CONTROLLER, HOLDER, term=1, number=1, ttl_s=TTL_S, arm=True, seen_boot=BOOT, peers=PEERS, witness_key=KEY
)


def armed(seen: float, number: int = 1, peers: tuple[str, ...] = PEERS) -> Lease:
    """A lease that ends by itself `TTL_S` after the moment that its controller has seen."""
    return Lease(
        CONTROLLER,
        HOLDER,
        term=1,
        number=number,
        boot_id=BOOT,
        ttl_s=TTL_S,
        armed=True,
        seen=seen,
        renewed=seen,
        peers=peers,
        witness_key=KEY,
    )


def renewal(seen: float | None, arm: bool = True, **others: object) -> Renewal:
    """A renewal that has seen that moment of the host."""
    values: dict[str, object] = {"seen_boot": "" if seen is None else BOOT, **others}
    return replace(RENEWAL, seen=seen, arm=arm, **values)  # type: ignore[arg-type]


class ForwardClock(SystemClock):
    """The clock of this host, put forward by as much as a test says."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def since_boot(self) -> float:
        return super().since_boot() + self.ahead_s


class OtherNodes:
    """The other nodes of a cloud, who say what a test lets them say: seconds by address; who is not there does not answer."""

    def __init__(self) -> None:
        self.ages: dict[str, float] = {}
        self.asked = 0

    def __call__(self, _controller: str, key: str, peers: Sequence[str]) -> Mapping[str, float]:
        self.asked += 1
        assert key == KEY
        return {peer: age_s for peer, age_s in self.ages.items() if peer in peers}


def eventually(what: str, check: Callable[[], object], within_s: float = 120.0) -> None:
    """Wait until `check` is true; fail, saying what was waited for, when it is not in that time."""
    end = time.monotonic() + within_s
    while not check():
        assert time.monotonic() < end, f"{what}: not within {within_s} s"
        _pause.wait(0.02)
