"""Kills processes, and nothing that came into their numbers meanwhile."""

from __future__ import annotations

import contextlib
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

FREEZER = Path("/sys/fs/cgroup/freezer")
_FREEZER_GROUP = re.compile(r"^[0-9]+:freezer:/(.+)$", re.MULTILINE)


def kill_all(find: Callable[[], list[int]]) -> bool:
    """Send SIGKILL to the processes that `find` finds; return whether there were any."""
    found = find()
    handles: dict[int, int] = {}
    try:
        for pid in found:
            with contextlib.suppress(OSError):
                handles[pid] = os.pidfd_open(pid)
        still = (
            set(find()) if handles else set()
        )  # asked while the numbers are held: they cannot have another process now
        for pid in still & handles.keys():
            with contextlib.suppress(OSError):
                signal.pidfd_send_signal(handles[pid], signal.SIGKILL)
            _thaw(pid)
    finally:
        for handle in handles.values():
            os.close(handle)
    return bool(found)


def _thaw(pid: int) -> None:
    """Let a process that is frozen by a control group of the older kind die; of the newer kind, it dies frozen."""
    with contextlib.suppress(OSError):
        group = _FREEZER_GROUP.search(Path(f"/proc/{pid}/cgroup").read_text())
        if group is not None:
            state = FREEZER / group[1] / "freezer.state"
            if state.read_text().strip() != "THAWED":
                state.write_text("THAWED")
