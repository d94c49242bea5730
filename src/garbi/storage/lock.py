"""One service per directory or database: a second one is told so instead of fighting over the machines."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

from garbi.base.disks import kind_of
from garbi.base.errors import DataDirLocked, FinalError

LOCK_FILE = "lock"


class FileLock:
    """An advisory lock (flock) on a file; the kernel drops it when the process ends, however it ends."""

    def __init__(self, path: Path, what: Path, who: str) -> None:
        """Take the lock of `what` for `who`; raises DataDirLocked, which names the process that has it.

        Raises StorageFailed, NoSpace or FinalError where the file cannot be opened to be written.
        """
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise kind_of(error, FinalError)(f"the lock {path} cannot be taken: {error.strerror}") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._file, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(self._file)
            raise DataDirLocked(f"another {who} (pid {holder}) works on {what}", holder=holder) from None
        with contextlib.suppress(OSError):  # who has it is for people to know: a full disk takes nothing
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let another take it."""
        os.close(self._file)


class DataDirLock(FileLock):
    """The lock of the data directory of an agent."""

    def __init__(self, data_dir: Path) -> None:
        """Take the lock; raises DataDirLocked, which names the process that has it."""
        super().__init__(data_dir / LOCK_FILE, data_dir, "agent")
