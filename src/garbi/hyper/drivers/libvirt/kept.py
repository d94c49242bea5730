"""The disks of virtual machines of this host that are kept: files renamed in the pool, where they lie.

Each stays an overlay of its image where it was one, so the image's content must stay too; the agent sees to that.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from garbi.base.disks import kind_of
from garbi.base.errors import Conflict, DriverFailed
from garbi.base.failpoints import reach
from garbi.hyper.drivers.protocol import KeptDisk

DISK, KEPT = ".qcow2", ".kept"


class KeptDisks:
    """The kept disks in the directory of one agent's pool."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def find(self, machine_id: str, name: str) -> KeptDisk | None:
        """The disk of the machine that is kept as `name`."""
        file = self._file(name)
        return _described(file) if name.partition(".")[0] == machine_id and file.exists() else None

    def keep(self, machine_id: str, name: str) -> KeptDisk | None:
        """Rename the disk, in one go; None when there is none. Raises Conflict when `name` is another's."""
        disk, kept = self._directory / f"{machine_id}{DISK}", self._file(name)
        if not disk.exists():
            return self.find(machine_id, name)
        if kept.exists():
            raise Conflict(f"another disk is kept as {name} already")
        reach("libvirt.keep_disk.begin")
        with _refusals():
            disk.rename(kept)
            reach("libvirt.keep_disk.renamed")
            _sync(self._directory)
        return _described(kept)

    def all(self) -> Mapping[str, KeptDisk]:
        """What is kept, by name."""
        with _refusals():
            found = {}
            for file in self._directory.glob(f"*{KEPT}"):
                with suppress(FileNotFoundError):  # it may be dropped meanwhile
                    found[file.name.removesuffix(KEPT)] = _described(file)
            return found

    def drop(self, name: str) -> None:
        """Delete what is kept as `name`, if there is anything."""
        reach("libvirt.drop_kept.begin")
        with _refusals():
            self._file(name).unlink(missing_ok=True)
        reach("libvirt.drop_kept.gone")

    def _file(self, name: str) -> Path:
        return self._directory / f"{name}{KEPT}"


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise kind_of(error, DriverFailed)(f"the kept disk {error.filename}: {error.strerror}") from error


def _described(file: Path) -> KeptDisk:
    return KeptDisk(str(file), file.stat().st_blocks * 512)


def _sync(directory: Path) -> None:
    """Let the new name outlive a power cut, as the row will that says it is there."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
