"""Where the agent, the watchdog and `hyper fence` tell one another of leases, each without the others: small files.

They lie in memory that lasts for a boot, as leases do, so that a disk that is full, broken or hangs holds up nobody:
`<controller>.json` is the lease as it was last renewed, `<controller>.fenced` the number of the last lease that has ended for
good. What outlives a boot is on the disk, in the data directory, too: that number, and in a file of the same form who was heard
last.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import threading
from pathlib import Path
from typing import Any

from garbi.base.disks import kind_of
from garbi.base.errors import FinalError
from garbi.base.failpoints import reach
from garbi.base.places import make_private
from garbi.hyper.leases.record import CONTROLLER_FORM, Lease

DIRECTORY = "leases"
_LEASE, _FENCED = ".json", ".fenced"

Sign = tuple[int, ...] | None
"""Another value after each write of a file; None while there is none."""


class LeaseFiles:
    """The files of one data directory; `runtime` is where those of this boot lie. Every write is whole or nothing.

    `take_up`, `keep` and `keep_holder` alone wait for the disk, and `fence`, which does that last.
    """

    def __init__(self, data_dir: Path, runtime: Path) -> None:
        self._disk = data_dir / DIRECTORY
        self._memory = runtime

    def controllers(self) -> list[str]:
        """The controllers that there are files of in memory; raises OSError where the directory cannot be read."""
        return _controllers_in(self._memory)

    def take_up(self) -> None:
        """Take what lies on the disk into memory: the ends of leases, and who was heard last where memory says nothing of that.

        Raises NoSpace, StorageFailed, FinalError.
        """
        try:
            for controller in _controllers_in(self._disk):
                self.note_end(controller, _number_in(self._disk / f"{controller}{_FENCED}"))
                lease = _read(controller, self._disk / f"{controller}{_LEASE}")
                if lease is not None and self.lease_sign(controller) is None:
                    self.write(lease)
        except OSError as error:
            raise kind_of(error, FinalError)(f"{self._disk} cannot be read: {error.strerror}") from error

    def read(self, controller: str) -> Lease | None:
        """The lease as it was last renewed; None when there is none, or what is there is no lease."""
        return _read(controller, self._lease(controller))

    def write(self, lease: Lease) -> None:
        """Write a renewed lease, for the watchdog to see; raises NoSpace, StorageFailed, FinalError."""
        _replace(self._lease(lease.controller), _encode(lease), durable=False)

    def fenced(self, controller: str) -> int:
        """The number up to which the leases of a controller have ended for good, as far as memory says; 0 when none has."""
        return _number_in(self._end(controller))

    def fence(self, controller: str, number: int) -> int:
        """End the leases up to `number` for good; return up to which they have ended. Raises as `note_end` and `keep`."""
        ended = self.note_end(controller, number)
        self.keep(controller, ended)
        return ended

    def note_end(self, controller: str, number: int) -> int:
        """End the leases up to `number`, for as long as the host runs; return up to which they have ended.

        Agent, watchdog and fence see it from then on. Raises NoSpace, StorageFailed, FinalError.
        """
        known = self.fenced(controller)
        if number > known:
            _replace(self._end(controller), b"%d\n" % number, durable=False)
        return max(number, known)

    def keep(self, controller: str, number: int) -> None:
        """Have the end of the leases up to `number` on the disk; raises NoSpace, StorageFailed, FinalError."""
        path = self._disk / f"{controller}{_FENCED}"
        if number > _number_in(path):
            reach("lease.fence.begun")
            _replace(path, b"%d\n" % number, durable=True)
            reach("lease.fence.written")

    def keep_holder(self, controller: str, holder: str, term: int, number: int) -> None:
        """Have on the disk who is heard now, for a start that finds no database; raises NoSpace, StorageFailed, FinalError."""
        lease = Lease(controller, holder, term, number)
        _replace(self._disk / f"{controller}{_LEASE}", _encode(lease), durable=True)

    def fence_sign(self, controller: str) -> Sign:
        """What tells, for one call of the kernel, whether `fenced` has changed."""
        return _sign_of(self._end(controller))

    def lease_sign(self, controller: str) -> Sign:
        """What tells whether `read` has something new."""
        return _sign_of(self._lease(controller))

    def _lease(self, controller: str) -> str:
        return f"{self._memory}/{controller}{_LEASE}"

    def _end(self, controller: str) -> str:
        return f"{self._memory}/{controller}{_FENCED}"


def _controllers_in(directory: Path) -> list[str]:
    names: set[str] = set()
    with contextlib.suppress(FileNotFoundError):
        names = {Path(name).stem for name in os.listdir(directory)}
    return sorted(name for name in names if CONTROLLER_FORM.match(name))


def _read(controller: str, path: Path | str) -> Lease | None:
    try:
        return _decode(controller, Path(path).read_bytes())
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _number_in(path: Path | str) -> int:
    try:
        return int(Path(path).read_bytes())
    except (OSError, ValueError):
        return 0


def _replace(path: Path | str, content: bytes, durable: bool) -> None:
    beside = f"{path}.{os.getpid()}-{threading.get_ident()}"
    parent = Path(path).parent
    try:
        try:
            _write(beside, content, durable)
        except FileNotFoundError:  # the directory in memory goes with a boot; that on the disk is the agent's to make
            if durable:
                parent.mkdir(mode=0o700, exist_ok=True)
            else:
                make_private(parent)
            _write(beside, content, durable)
        os.replace(beside, path)
        if durable:
            _sync_directory(parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(beside)
        raise kind_of(error, FinalError)(f"the lease cannot be written to {path}: {error.strerror}") from error


def _write(path: str, content: bytes, durable: bool) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        if os.write(file, content) != len(content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if durable:
            os.fsync(file)
    finally:
        os.close(file)


def _sign_of(path: str) -> Sign:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino


def _decode(controller: str, content: bytes) -> Lease:
    values: dict[str, Any] = json.loads(content)
    return Lease(**{**values, "controller": controller, "peers": tuple(values["peers"])})


def _encode(lease: Lease) -> bytes:
    """Not by `asdict`, which would copy each peer: this is written every few seconds."""
    return json.dumps({name: getattr(lease, name) for name in Lease.__slots__}).encode()


def _sync_directory(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
