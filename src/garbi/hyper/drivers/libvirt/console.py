"""The consoles of this host's machines: virtlogd writes each to a file, and starts a new one when it has grown too large."""

from __future__ import annotations

import shutil
from pathlib import Path

from garbi.base.errors import DriverFailed


class Consoles:
    """The directory of the consoles of one agent."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def path(self, machine_id: str) -> Path:
        """Where the console of a machine is written to."""
        return self._directory / f"{machine_id}.log"

    def ensure(self) -> None:
        """Make the directory."""
        try:
            self._directory.mkdir(mode=0o711, parents=True, exist_ok=True)
        except OSError as error:
            raise DriverFailed(f"the directory of the consoles cannot be made: {error}") from error

    def tail(self, machine_id: str, limit: int) -> bytes:
        """The last `limit` bytes, from older files too when the present one is shorter; empty when nothing was written."""
        text = b""
        try:
            for path in self._files(machine_id):
                if len(text) >= limit:
                    break
                text = _tail(path, limit - len(text)) + text
        except OSError as error:
            raise DriverFailed(f"the console cannot be read: {error}") from error
        return text

    def delete(self, machine_id: str) -> None:
        """Delete what was written; nothing happens when nothing is there."""
        try:
            for path in self._files(machine_id):
                path.unlink(missing_ok=True)
        except OSError as error:
            raise DriverFailed(f"the console cannot be deleted: {error}") from error

    def destroy(self) -> None:
        """Delete the directory, and what is left in it."""
        shutil.rmtree(self._directory, ignore_errors=True)

    def _files(self, machine_id: str) -> list[Path]:
        """Newest first: virtlogd calls the older ones FILE.0, FILE.1 and so on."""
        present = self.path(machine_id)
        older = sorted(present.parent.glob(f"{present.name}.[0-9]*"), key=lambda path: int(path.suffix[1:]))
        return [path for path in (present, *older) if path.exists()]


def _tail(path: Path, limit: int) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - limit))
        return file.read(limit)
