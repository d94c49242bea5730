"""Which container each machine is: the engine's own id of it, noted when it was made, in files beside the agent's database.

A container that somebody renames stays the machine; one that has the labels of a machine and another id is not it.
"""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path

from garbi.base.disks import kind_of
from garbi.base.errors import DriverFailed, GarbiError


class Notes:
    """The notes of one agent, read once: nobody else writes there while it lives."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self._ids: dict[str, str] | None = None

    def all(self) -> dict[str, str]:
        """The container of each machine that is noted, by the machine's id."""
        with self._lock:
            return dict(self._read())

    def of(self, machine_id: str) -> str | None:
        """The container of a machine; None where none is noted."""
        with self._lock:
            return self._read().get(machine_id)

    def write(self, machine_id: str, container_id: str) -> None:
        """Note which container a machine is; raises NoSpace, DriverFailed."""
        with self._lock:
            if self._read().get(machine_id) == container_id:
                return
            try:
                self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                beside = self._directory / f".{machine_id}"
                beside.write_text(container_id)
                beside.replace(self._directory / machine_id)
            except OSError as error:
                raise kind_of(error, DriverFailed)(
                    f"the container of machine {machine_id} cannot be noted: {error.strerror}"
                ) from error
            self._read()[machine_id] = container_id

    def adopt(self, machine_id: str, container_id: str) -> None:
        """Note the container of a machine of which none was noted, if that can be written now."""
        if self.of(machine_id) is None:
            with contextlib.suppress(GarbiError):
                self.write(machine_id, container_id)

    def forget(self, machine_id: str) -> None:
        """Forget a machine that is gone, or that is made anew."""
        with self._lock:
            self._read().pop(machine_id, None)
            with contextlib.suppress(OSError):
                (self._directory / machine_id).unlink()

    def destroy(self) -> None:
        """Delete all notes."""
        with self._lock:
            self._ids = {}
            with contextlib.suppress(OSError):
                for each in self._directory.iterdir():
                    each.unlink()
                self._directory.rmdir()

    def _read(self) -> dict[str, str]:
        if self._ids is None:
            self._ids = {}
            with contextlib.suppress(OSError):
                for each in self._directory.iterdir():
                    if not each.name.startswith(".") and (text := _text(each)):
                        self._ids[each.name] = text
        return self._ids


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except (OSError, ValueError):
        return ""
