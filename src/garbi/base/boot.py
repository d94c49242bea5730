"""Which boot of which host this is, as far as a process can tell."""

from __future__ import annotations

from pathlib import Path

_PROC = Path("/proc")
_STARTTIME = 19
"""Where proc(5) has the start of a process, in clock ticks, counted behind its name."""


def boot_id() -> str:
    """An id that is another one after each boot of this host.

    The kernel's own, and when the first process began: a host that is a container shares its kernel, and boots without it.
    """
    kernels = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
    first = (_PROC / "1/stat").read_text().rpartition(")")[2].split()
    return f"{kernels}.{first[_STARTTIME]}"
