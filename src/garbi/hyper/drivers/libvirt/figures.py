"""Live figures of a running domain, from one question to libvirt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import libvirt

from garbi.hyper.drivers.protocol import Figures

_KINDS = (
    libvirt.VIR_DOMAIN_STATS_CPU_TOTAL
    | libvirt.VIR_DOMAIN_STATS_BALLOON
    | libvirt.VIR_DOMAIN_STATS_BLOCK
    | libvirt.VIR_DOMAIN_STATS_INTERFACE
)
_KIB = 1024


def measure(live: Any, domain: Any) -> Figures:
    """Measure the running domain."""
    (_, stats), *_ = live.domainListGetStats([domain], _KINDS, 0)
    return read_figures(stats)


def read_figures(stats: Mapping[str, Any]) -> Figures:
    """The figures in libvirt's own words."""
    return Figures(
        cpu_seconds=stats.get("cpu.time", 0) / 1e9,
        memory_bytes=_memory_in_use(stats) * _KIB,
        disk_read_bytes=_sum(stats, "block", "rd.bytes"),
        disk_written_bytes=_sum(stats, "block", "wr.bytes"),
        network_received_bytes=_sum(stats, "net", "rx.bytes"),
        network_sent_bytes=_sum(stats, "net", "tx.bytes"),
    )


def _memory_in_use(stats: Mapping[str, Any]) -> int:
    """In KiB: the guest's own word where its balloon driver gives one; what its process holds otherwise, without QEMU's own."""
    available, unused = stats.get("balloon.available"), stats.get("balloon.usable", stats.get("balloon.unused"))
    if available and unused is not None:
        return max(0, int(available) - int(unused))
    return min(int(stats.get("balloon.rss", 0)), int(stats.get("balloon.current", 0)))


def _sum(stats: Mapping[str, Any], group: str, name: str) -> int:
    return sum(int(stats.get(f"{group}.{index}.{name}", 0)) for index in range(int(stats.get(f"{group}.count", 0))))
