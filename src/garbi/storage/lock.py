"""One agent per data directory: a second one is told so instead of fighting over the machines."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from garbi.base.errors import DataDirLocked


class DataDirLock:
    """An advisory lock (flock) on a file of the data directory; the kernel drops it when the process ends, however it ends."""

    def __init__(self, data_dir: Path) -> None:
        """Take the lock; raises DataDirLocked, which names the process that has it."""
        self._file = os.open(data_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._file, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(self._file)
            raise DataDirLocked(f"another agent (pid {holder}) works on {data_dir}", holder=holder) from None
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let another agent take the directory."""
        os.close(self._file)
