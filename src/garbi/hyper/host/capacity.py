"""What this host has and what of it is free, read from the kernel each time."""

from __future__ import annotations

import os
import platform
import socket
import sys
from pathlib import Path

from garbi import __version__
from garbi.base.boot import boot_id as boot_id

_PROC = Path("/proc")
_OS_RELEASE = Path("/etc/os-release")
_KIB_PER_MIB = 1024


def cpus() -> int:
    """The processors that this process may use."""
    return len(os.sched_getaffinity(0))


def memory_total_mib() -> int:
    """The memory of the host in MiB."""
    return _memory_mib("MemTotal")


def memory_available_mib() -> int:
    """The memory in MiB that new programs can have without swapping."""
    return _memory_mib("MemAvailable")


def load_average() -> float:
    """How many processes wanted a processor, on average over the last minute."""
    return round(os.getloadavg()[0], 2)


def run_delay_s() -> float:
    """For how many seconds the main thread of this process has waited for a processor, since it began."""
    try:
        return int((_PROC / "self/schedstat").read_text().split()[1]) / 1e9
    except (OSError, ValueError, IndexError):  # a kernel without these figures
        return 0.0


def hostname() -> str:
    return socket.gethostname()


def kernel() -> str:
    """The release of the running kernel."""
    return platform.release()


def architecture() -> str:
    """The machine's architecture as the kernel names it: x86_64, aarch64."""
    return platform.machine()


def versions() -> dict[str, str]:
    """The versions of what the agent itself stands on; drivers tell their daemons' own."""
    return {
        "garbi": __version__,
        "python": platform.python_version(),
        "os": _os_name(),
        "libc": " ".join(platform.libc_ver()),
    }


def _memory_mib(name: str) -> int:
    for line in (_PROC / "meminfo").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) // _KIB_PER_MIB
    return 0


def _os_name() -> str:
    try:
        lines = _OS_RELEASE.read_text().splitlines()
    except OSError:
        return sys.platform
    fields = dict(line.split("=", 1) for line in lines if "=" in line)
    return fields.get("PRETTY_NAME", sys.platform).strip('"')
