"""Live figures of a container from one sample of the engine's statistics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from garbi.hyper.drivers.protocol import Figures

NANOSECONDS = 1_000_000_000


def figures_from(sample: Mapping[str, Any]) -> Figures:
    """The figures of the sample; what the host's kernel does not count is 0."""
    cpu = sample.get("cpu_stats") or {}
    networks = (sample.get("networks") or {}).values()
    return Figures(
        cpu_seconds=int((cpu.get("cpu_usage") or {}).get("total_usage") or 0) / NANOSECONDS,
        memory_bytes=_memory(sample.get("memory_stats") or {}),
        disk_read_bytes=_disk(sample.get("blkio_stats") or {}, "read"),
        disk_written_bytes=_disk(sample.get("blkio_stats") or {}, "write"),
        network_received_bytes=sum(int(network.get("rx_bytes") or 0) for network in networks),
        network_sent_bytes=sum(int(network.get("tx_bytes") or 0) for network in networks),
    )


def _memory(stats: Mapping[str, Any]) -> int:
    """Memory in use without the cache that the kernel would give back, counted as the docker command does."""
    details = stats.get("stats") or {}
    idle_cache = int(details.get("total_inactive_file") or details.get("inactive_file") or 0)
    return max(0, int(stats.get("usage") or 0) - idle_cache)


def _disk(stats: Mapping[str, Any], operation: str) -> int:
    entries = stats.get("io_service_bytes_recursive") or []
    return sum(int(entry.get("value") or 0) for entry in entries if str(entry.get("op", "")).lower() == operation)
