"""When the watchdog of a host feeds that of its kernel: while leases let machines run, and not once one should have ended."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.leases.conftest import LeasedHost
from tests.leases.words import TTL_S

from garbi.hyper.watchdog.kernel import KernelWatchdog


@dataclass
class Told(KernelWatchdog):
    """What the watchdog told of the leases, look by look."""

    said: list[tuple[float | None, bool]] = field(default_factory=list)

    def follow(self, ttl_s: float | None, alive: bool) -> None:
        self.said.append((ttl_s, alive))


def test_it_is_fed_while_the_lease_is_armed_and_goes_on_and_closed_once_it_is_disarmed(host: LeasedHost) -> None:
    watchdog, told = host.start_watchdog(), Told()
    watchdog._kernel = told
    first = host.arm()
    assert told.said == [(None, True)]
    watchdog.tick()
    host.clock.ahead_s += 1
    host.renew(first.moment + 1, arm=False)
    watchdog.tick()
    assert told.said == [(None, True), (TTL_S, True), (None, True)]
    host.stop_watchdog()
    assert told.said[-1] == (None, False)


def test_it_is_not_fed_between_the_end_of_a_lease_and_that_of_its_machines(host: LeasedHost) -> None:
    watchdog, told = host.start_watchdog(), Told()
    watchdog._kernel = told
    host.renew(None)
    host.add("m")
    host.arm()
    told.said.clear()
    host.clock.ahead_s += TTL_S + 1
    for _ in range(4):
        watchdog.tick()
    assert not host.runs("m")
    assert told.said[0] == (TTL_S, False)
    assert told.said[-1] == (None, True)
