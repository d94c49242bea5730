"""Hosts that hardly get the processor, as processes: nothing ends there, since nothing is broken."""

from __future__ import annotations

from pathlib import Path

from tests.leases.clouds import NeverOff, cloud_of
from tests.leases.processes import LIMIT_S
from tests.leases.starving import starved
from tests.leases.words import eventually

ON_S, OFF_S = 0.2, 4.8
"""Four hundredths of a processor."""

TTL_S = 20


def test_on_hosts_with_four_hundredths_of_a_processor_nothing_is_stopped(data_dir: Path) -> None:
    with cloud_of(data_dir, "n1", "n2", LEASE_TTL_S=str(TTL_S), UNREACHABLE_AFTER_S="10") as cloud:
        cloud.add("m", "n1")
        cloud.add("w", "n2")
        cloud.armed()
        hungry = [process for host in cloud.hosts.values() for process in (host.agent, host.watchdog)]
        with NeverOff(cloud, ("m", "n1"), ("w", "n2")), starved(hungry, ON_S, OFF_S) as had_enough:
            assert had_enough.wait(LIMIT_S)
        for name in cloud.hosts:
            cloud.node_is(name, "ready")
        eventually(
            "their leases are longer now",
            lambda: all(host.lease()["expires_in_s"] > TTL_S for host in cloud.hosts.values()),
        )
        assert {each["id"]: each["node"] for each in cloud.client.machines.list()} == {"m": "n1", "w": "n2"}
