"""Which container each machine is: the engine's own id of it, noted when it was made, in files beside the agent's database.

A container that somebody renames stays the machine; one that has the labels of a machine and another id is not it. The notes lie
once more in memory, where they are read while the disk hangs.
"""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path

from garbi.base.disks import kind_of
from garbi.base.errors import DriverFailed, GarbiError, StorageFailed
from garbi.base.hanging import disk_of

READ_S = 1.0
"""How long the disk has to give the notes."""


class Notes:
    """The notes of one agent, read once: nobody else writes there while it lives. `memory` is where they lie once more."""

    def __init__(self, directory: Path, memory: Path | None = None) -> None:
        self._directory = directory
        self._memory = memory
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
                for directory in self._places():
                    _write(directory, machine_id, container_id)
            except OSError as error:
                raise kind_of(error, DriverFailed)(
                    f"the container of machine {machine_id} cannot be noted: {error.strerror}"
                ) from error
            self._read()[machine_id] = container_id

    def repeat(self) -> None:
        """Write all notes once more in memory, as they are on the disk; an agent does that when it starts."""
        with self._lock, contextlib.suppress(OSError):
            if self._memory is not None:
                noted = self._read()
                for stale in _names(self._memory) - noted.keys():
                    (self._memory / stale).unlink(missing_ok=True)
                for machine_id, container_id in noted.items():
                    _write(self._memory, machine_id, container_id)

    def adopt(self, machine_id: str, container_id: str) -> None:
        """Note the container of a machine of which none was noted, if that can be written now.

        Who ends machines waits for no disk that hangs.
        """
        if self.of(machine_id) is None:
            with contextlib.suppress(GarbiError, OSError):
                disk_of(self._directory).within(READ_S, lambda: _write(self._directory, machine_id, container_id))
                self.write(machine_id, container_id)

    def forget(self, machine_id: str) -> None:
        """Forget a machine that is gone, or that is made anew."""
        with self._lock:
            self._read().pop(machine_id, None)
            for directory in self._places():
                with contextlib.suppress(OSError):
                    (directory / machine_id).unlink()

    def destroy(self) -> None:
        """Delete all notes."""
        with self._lock:
            self._ids = {}
            for directory in self._places():
                with contextlib.suppress(OSError):
                    for each in directory.iterdir():
                        each.unlink()
                    directory.rmdir()

    def _places(self) -> list[Path]:
        return [self._directory] if self._memory is None else [self._directory, self._memory]

    def _read(self) -> dict[str, str]:
        if self._ids is None:
            try:
                self._ids = disk_of(self._directory).within(READ_S, lambda: _notes_in(self._directory))
            except StorageFailed:
                self._ids = {} if self._memory is None else _notes_in(self._memory)
        return self._ids


def _notes_in(directory: Path) -> dict[str, str]:
    return {name: text for name in _names(directory) if (text := _text(directory / name))}


def _names(directory: Path) -> set[str]:
    try:
        return {each.name for each in directory.iterdir() if not each.name.startswith(".")}
    except OSError:
        return set()


def _write(directory: Path, machine_id: str, container_id: str) -> None:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    beside = directory / f".{machine_id}"
    beside.write_text(container_id)
    beside.replace(directory / machine_id)


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except (OSError, ValueError):
        return ""
