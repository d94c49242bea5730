"""By what the agent knows that a watchdog works beside it: a lock that the kernel drops, and a heartbeat in the locked file.

It lies in memory: no disk stops the heart of a watchdog.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from pathlib import Path

from garbi.base.disks import kind_of
from garbi.base.errors import DataDirLocked, FinalError
from garbi.base.places import make_private

FILE = "watchdog.lock"
FRESH_S = 8.0
"""How old the last beat of a watchdog may be that works."""

TRIES = 25
_LENGTH = 96


class Heartbeat:
    """The watchdog's side: at most one holds the lock of a data directory, in the directory `runtime` of this boot."""

    def __init__(self, runtime: Path) -> None:
        """Take the lock; raises DataDirLocked while another watchdog has it, StorageFailed, FinalError."""
        self._path = runtime / FILE
        self._open()
        if self._take() or self._replace_dead():
            return
        holder = self._holder()
        os.close(self._file)
        raise DataDirLocked(f"another watchdog (pid {holder or 'unknown'}) guards this directory", holder=holder)

    def _open(self) -> None:
        try:
            make_private(self._path.parent)
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise kind_of(error, FinalError)(f"{self._path} cannot be made: {error.strerror}") from error

    def _holder(self) -> str:
        return os.pread(self._file, _LENGTH, 0).decode(errors="replace").split(" ")[0]

    def _replace_dead(self) -> bool:
        """Take the place of a watchdog that was killed and does not go, because a disk holds one of its threads, and its lock."""
        if not _is_dead(self._holder()):
            return False
        os.close(self._file)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)
        self._open()
        return self._take()

    def _take(self) -> bool:
        """An agent that looks for a watchdog has the lock for a moment."""
        for _ in range(TRIES):
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            threading.Event().wait(0.02)
        return False

    def beat(self, boot_id: str, now: float, *, blind: bool = False) -> None:
        """Say that the watchdog works at the moment `now`; one that is `blind` could not end everything, and guards nothing."""
        text = f"{os.getpid()} {boot_id} {now:.3f}{' blind' if blind else ''}".ljust(_LENGTH - 1) + "\n"
        os.pwrite(self._file, text.encode(), 0)

    def is_current(self) -> bool:
        """Whether the locked file is still the one that an agent looks at."""
        try:
            return os.path.samestat(os.stat(self._path), os.fstat(self._file))
        except OSError:
            return False

    def release(self) -> None:
        """Let another watchdog take the directory."""
        os.close(self._file)


def beats(runtime: Path, boot_id: str, now: float) -> bool:
    """Whether a watchdog works: it holds the lock in the directory of this boot, and its last beat is fresh."""
    try:
        file = os.open(runtime / FILE, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return _is_locked(file) and _is_fresh(os.pread(file, _LENGTH, 0), boot_id, now)
    finally:
        os.close(file)


def beat_age_s(runtime: Path, boot_id: str, now: float) -> float | None:
    """How many seconds ago the watchdog last said that it works; None where it has not in this boot."""
    try:
        _, boot, moment = (runtime / FILE).read_text(errors="replace").split()
        return now - float(moment) if boot == boot_id else None
    except (OSError, ValueError):
        return None


def _is_dead(pid: str) -> bool:
    """Whether a process was killed, though some thread of it is left."""
    with contextlib.suppress(OSError):
        return pid.isdecimal() and Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return False


def _is_locked(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    fcntl.flock(file, fcntl.LOCK_UN)
    return False


def _is_fresh(text: bytes, boot_id: str, now: float) -> bool:
    with contextlib.suppress(ValueError):
        _, boot, moment = text.decode(errors="replace").split()
        return boot == boot_id and now - FRESH_S <= float(moment) <= now + FRESH_S
    return False
