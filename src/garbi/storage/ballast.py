"""Space kept on the disk of the data directory, so that a full disk stops neither the agent's records nor a removal."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from garbi.base.disks import kind_of, size_text
from garbi.base.errors import FinalError, NoSpace

SIZE = 8 << 20
"""In bytes: tens of thousands of changes of machines."""

NEEDED = 1 << 20
"""In bytes: with less than this, a transaction may fail."""


class Ballast:
    """A file that takes space while there is plenty, and gives it to the database when there is none."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / "ballast"

    def balance(self) -> None:
        """Let go of the ballast when the disk is all but full; take it in again when there is room for it and more.

        Raises StorageFailed when the disk itself refuses, and FinalError for what else stands in the way.
        """
        try:
            self._balance()
        except OSError as error:
            what = f"the disk of the data directory {self._path.parent} cannot be written"
            raise kind_of(error, FinalError)(f"{what}: {error.strerror}") from error

    def is_full(self) -> bool:
        """Whether a write may fail for want of space."""
        return self._free() < NEEDED

    def _balance(self) -> None:
        free = self._free()
        if free < NEEDED:
            self._path.unlink(missing_ok=True)
        elif free >= SIZE + 2 * NEEDED and not self._is_whole():
            self._take_in()

    def require_room(self) -> None:
        """Raise NoSpace when the disk is all but full: what is left is for machines that are here already."""
        self.balance()
        if not self._is_whole():
            left = self._free()
            raise NoSpace(f"the disk of the data directory is full: {size_text(left)} left; free some space on it")

    def _free(self) -> int:
        space = os.statvfs(self._path.parent)
        return space.f_bavail * space.f_frsize

    def _is_whole(self) -> bool:
        """A crash may have left a part of it."""
        try:
            return self._path.stat().st_size >= SIZE
        except OSError:
            return False

    def _take_in(self) -> None:
        """All of it or nothing; another thread may do the same at the same time."""
        try:
            with self._path.open("wb") as file:
                os.fchmod(file.fileno(), 0o600)
                os.posix_fallocate(file.fileno(), 0, SIZE)
        except OSError:
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)
