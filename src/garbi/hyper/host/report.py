"""What a host says of itself, to users and to the controller."""

from __future__ import annotations

from pathlib import Path

from garbi.hyper.host import capacity
from garbi.hyper.host.virtualisation import detect_virtualisation
from garbi.hyper_api.host import Disk, HostReport, Memory
from garbi.storage.room import disk_bytes


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
        memory=Memory(capacity.memory_total_mib(), capacity.memory_available_mib()),
        disk=Disk(str(data_dir), total, free),
        virtualisation=detect_virtualisation(),
        versions=capacity.versions(),
    )
