"""Where the agent, the watchdog and `hyper fence` tell one another of leases, each without the others: small files.

`<controller>.json` is the lease as it was last renewed; it need not outlive a crash of the host, for then no lease does.
`<controller>.fenced` is the number of the last lease that has ended for good; it is on the disk before anything follows from it.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import threading
from pathlib import Path
from typing import Any

from garbi.base.disks import kind_of
from garbi.base.errors import FinalError, NoSpace, StorageFailed
from garbi.base.failpoints import reach
from garbi.hyper.leases.record import CONTROLLER_FORM, Lease

DIRECTORY = "leases"
_LEASE, _FENCED = ".json", ".fenced"

Sign = tuple[int, ...] | None
"""Another value after each write of a file; None while there is none."""


class LeaseFiles:
    """The files in one data directory. Every write is whole or nothing."""

    def __init__(self, data_dir: Path) -> None:
        self._directory = data_dir / DIRECTORY
        self._beside = _runtime_dir() / hashlib.sha256(os.fsencode(data_dir.absolute())).hexdigest()[:16]

    def controllers(self) -> list[str]:
        """The controllers that there are files of; raises OSError where a directory cannot be read."""
        names: set[str] = set()
        for directory in (self._directory, self._beside):
            with contextlib.suppress(FileNotFoundError):
                names |= {Path(name).stem for name in os.listdir(directory)}
        return sorted(name for name in names if CONTROLLER_FORM.match(name))

    def read(self, controller: str) -> Lease | None:
        """The lease as it was last renewed; None when there is none, or what is there is no lease.

        Of two files the one renewed later in one boot counts. The one in memory is of this boot, and goes once the disk can be
        written: of two boots it is the newer one. The time of day decides nothing.
        """
        usual, beside = (self._read(controller, path) for path in self._paths(controller))
        if usual is None or beside is None:
            return usual or beside
        return usual if usual.boot_id == beside.boot_id and _moments(usual) > _moments(beside) else beside

    @staticmethod
    def _read(controller: str, path: Path) -> Lease | None:
        try:
            return _decode(controller, path.read_bytes())
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def write(self, lease: Lease) -> None:
        """Write a renewed lease, for the watchdog to see; raises NoSpace, StorageFailed, FinalError.

        A disk that is full or has failed ends no machine: then the lease is written where it needs none, in memory that lasts for
        this boot.
        """
        path, beside = self._paths(lease.controller)
        try:
            self._replace(path, _encode(lease), durable=False)
        except (NoSpace, StorageFailed):
            self._write_beside(path.name, lease)
        else:
            with contextlib.suppress(OSError):
                os.unlink(beside)

    def _write_beside(self, name: str, lease: Lease) -> None:
        try:
            self._beside.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise kind_of(error, FinalError)(f"{self._beside} cannot be made: {error.strerror}") from error
        self._replace(self._beside / name, _encode(lease), durable=False)

    def fenced(self, controller: str) -> int:
        """The number up to which the leases of a controller have ended for good; 0 when none has."""
        try:
            return int(self._path(controller, _FENCED).read_bytes())
        except (OSError, ValueError):
            return 0

    def fence(self, controller: str, number: int) -> int:
        """End the leases up to `number` for good; return up to which they have ended. Raises NoSpace, FinalError."""
        known = self.fenced(controller)
        if number > known:
            reach("lease.fence.begun")
            self._replace(self._path(controller, _FENCED), b"%d\n" % number, durable=True)
            reach("lease.fence.written")
        return max(number, known)

    def fence_sign(self, controller: str) -> Sign:
        """What tells, for one call of the kernel, whether `fenced` has changed."""
        return _sign_of(f"{self._directory}/{controller}{_FENCED}")

    def lease_sign(self, controller: str) -> Sign:
        """What tells whether `read` has something new."""
        usual, beside = map(_sign_of, self._paths(controller))
        return None if usual is None and beside is None else (*(usual or (0, 0)), *(beside or (0, 0)))

    def _paths(self, controller: str) -> tuple[Path, Path]:
        """Where a lease is written, and where it is while that cannot be done."""
        return self._path(controller, _LEASE), self._beside / f"{controller}{_LEASE}"

    def _path(self, controller: str, suffix: str) -> Path:
        return self._directory / f"{controller}{suffix}"

    def _replace(self, path: Path, content: bytes, durable: bool) -> None:
        beside = f"{path}.{os.getpid()}-{threading.get_ident()}"
        try:
            try:
                self._write(beside, content, durable)
            except FileNotFoundError:
                path.parent.mkdir(mode=0o700, exist_ok=True)
                self._write(beside, content, durable)
            os.replace(beside, path)
            if durable:
                _sync_directory(path.parent)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.unlink(beside)
            raise kind_of(error, FinalError)(f"the lease cannot be written to {path}: {error.strerror}") from error

    @staticmethod
    def _write(path: str, content: bytes, durable: bool) -> None:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            if os.write(file, content) != len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if durable:
                os.fsync(file)
        finally:
            os.close(file)


def _runtime_dir() -> Path:
    """A directory of this boot, in memory."""
    return Path("/run/garbi") if os.geteuid() == 0 else Path(f"/run/user/{os.geteuid()}/garbi")


def _sign_of(path: Path | str) -> Sign:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino


def _moments(lease: Lease) -> tuple[float, float]:
    """When a lease was renewed, and what its controller had seen then."""
    return lease.renewed or 0.0, lease.seen or 0.0


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
