"""What a host says of itself, to users and to the controller."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from garbi.hyper.host import capacity
from garbi.hyper.host.virtualisation import Virtualisation, detect_virtualisation
from garbi.storage.room import disk_bytes


@dataclass(frozen=True, slots=True)
class MemoryReport:
    """MiB."""

    total_mib: int
    available_mib: int


@dataclass(frozen=True, slots=True)
class DiskReport:
    """Bytes of the file system where `path` is."""

    path: str
    total_bytes: int
    free_bytes: int


@dataclass(frozen=True, slots=True)
class HostReport:
    """One look at a host; drivers add their own versions."""

    hostname: str
    boot_id: str
    kernel: str
    architecture: str
    cpus: int
    load_average: float
    memory: MemoryReport
    disk: DiskReport
    virtualisation: Virtualisation
    versions: dict[str, str]


def report_host(data_dir: Path) -> HostReport:
    """Look at this host now; `data_dir` says whose disk counts."""
    total, free = disk_bytes(data_dir)
    return HostReport(
        hostname=capacity.hostname(),
        boot_id=capacity.boot_id(),
        kernel=capacity.kernel(),
        architecture=capacity.architecture(),
        cpus=capacity.cpus(),
        load_average=capacity.load_average(),
        memory=MemoryReport(capacity.memory_total_mib(), capacity.memory_available_mib()),
        disk=DiskReport(str(data_dir), total, free),
        virtualisation=detect_virtualisation(),
        versions=capacity.versions(),
    )
