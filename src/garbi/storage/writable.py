"""Whether a directory can be written, as far as it is known: its file system says so, a write has failed, or one is tried."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from pathlib import Path

from garbi.base.disks import FAILED

FILE = "written"
AGAIN_S = 5.0
"""So often it is tried whether a disk that has failed can be written again."""

LOOK_S = 20.0
"""So often it is tried, at most, where nothing else is written."""

_TEXT = b"This file is written to see whether that can be done.\n"


class Writable:
    """What is known of one directory. It is asked often, and by those who must not wait: that neither writes nor reads a disk.

    Once a write has failed, a thread of its own tries again until one succeeds.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._failure = ""
        self._tried = 0.0
        self._lock = threading.Lock()
        self._trying = False
        self._closing = threading.Event()

    def note_failure(self, words: str) -> None:
        """A write has failed, and not for want of space."""
        self._failure = words
        self._tried = time.monotonic()
        self._keep_trying()

    def failure(self) -> str:
        """Why nothing can be written, as far as it is known; empty when it can."""
        if self._is_read_only():
            return f"the file system of {self._directory} is read-only"
        return self._failure

    def look(self) -> None:
        """Find out what no write has told for a while. Waits for the disk."""
        if not self._trying and time.monotonic() - self._tried >= LOOK_S:
            self.try_out()
            if self._failure:
                self._keep_trying()

    def close(self) -> None:
        """Try no more."""
        self._closing.set()

    def _keep_trying(self) -> None:
        with self._lock:
            if not self._trying:
                self._trying = True
                threading.Thread(target=self._try_until_good, name="writable", daemon=True).start()

    def _try_until_good(self) -> None:
        while not self._closing.wait(AGAIN_S):
            self.try_out()
            with self._lock:
                if not self._failure:
                    self._trying = False
                    return

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
