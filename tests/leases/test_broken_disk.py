"""A watchdog whose data directory cannot be written to does what it is there for all the same."""

from __future__ import annotations

import os

from tests.leases.conftest import LeasedHost
from tests.leases.words import TTL_S


def test_a_watchdog_that_cannot_write_its_beat_ends_machines_all_the_same(host: LeasedHost) -> None:
    watchdog = host.start_watchdog()
    host.renew(None)
    host.add("m")
    host.arm()
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, watchdog._heartbeat._file)
    os.close(full)
    host.stop_agent()
    host.clock.ahead_s += TTL_S + 1
    watchdog.tick()
    watchdog.tick()
    assert not host.runs("m")
