"""Directories for services of tests: in memory, where a commit waits for no disk."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

MEMORY = Path("/dev/shm")
ROOM = 1 << 30


def new_place(prefix: str) -> Path:
    """A new directory that other users may pass through, as a hypervisor must; on the disk where memory has no room."""
    in_memory = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ROOM
    path = Path(tempfile.mkdtemp(prefix=prefix, dir=MEMORY if in_memory else None))
    path.chmod(0o711)
    return path
