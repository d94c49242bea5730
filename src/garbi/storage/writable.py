"""Whether a directory can be written, as far as it is known: its file system says so, a write has failed, or one is tried."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

from garbi.base.disks import FAILED

FILE = "written"
AGAIN_S = 5.0
"""So often it is tried, at most, whether a disk that has failed can be written again."""

LOOK_S = 20.0
"""So often it is tried, at most, where nothing else is written."""

_TEXT = b"This file is written to see whether that can be done.\n"


class Writable:
    """What is known of one directory. It is asked often: nothing is written for that while all is well."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._failure = ""
        self._tried = time.monotonic()

    def note_failure(self, words: str) -> None:
        """A write has failed, and not for want of space."""
        self._failure = words
        self._tried = time.monotonic()

    def failure(self) -> str:
        """Why nothing can be written; empty when it can. After a failure that is tried out, once in a while."""
        if self._is_read_only():
            return f"the file system of {self._directory} is read-only"
        if self._failure and time.monotonic() - self._tried >= AGAIN_S:
            self.try_out()
        return self._failure

    def look(self) -> None:
        """Find out what no write has told for a while."""
        if time.monotonic() - self._tried >= LOOK_S:
            self.try_out()

    def try_out(self) -> None:
        """Write something; only a full disk counts as one that can be written."""
        self._tried = time.monotonic()
        try:
            self._write()
        except OSError as error:
            self._failure = f"{self._directory} cannot be written: {error.strerror}" if error.errno in FAILED else ""
        else:
            self._failure = ""

    def _is_read_only(self) -> bool:
        with contextlib.suppress(OSError):
            return bool(os.statvfs(self._directory).f_flag & os.ST_RDONLY)
        return False

    def _write(self) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        file = os.open(self._directory / FILE, flags, 0o600)
        try:
            os.pwrite(file, _TEXT, 0)
            os.fsync(file)
        finally:
            os.close(file)
