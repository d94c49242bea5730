"""The disks of simulated hosts: full, read-only, failing, slow; and what a power cut takes of what a disk had only promised."""

from __future__ import annotations

import errno
import os
import random
import sqlite3
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from sqlalchemy.exc import OperationalError
from tests.simulation import threads
from tests.simulation.hosts import SimHost
from tests.simulation.kernel import kernel

SAYS = {
    "full": ("database or disk is full", errno.ENOSPC),
    "read-only": ("attempt to write a readonly database", errno.EROFS),
    "failing": ("disk I/O error", errno.EIO),
}
"""What such a disk answers to a database, and to a program that writes a file."""

CODES = {"read-only": sqlite3.SQLITE_READONLY, "failing": sqlite3.SQLITE_IOERR}
FOR_WRITING = os.O_WRONLY | os.O_RDWR

WRITES = ("INSERT", "UPDATE", "DELETE")
MEMORY = "memory"
"""The directory of what hosts keep in memory: no disk of theirs is in the way there, and a power cut takes it all."""

SLOW_S = 1.0
"""How long a commit takes on a slow disk, on average."""


def present_host() -> SimHost | None:
    """The host whose process has its turn."""
    return threads.present_process().host if kernel().current is not None else None


def refuse_statement(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
    """Fail where a database writes to a disk that takes nothing. A full one leaves room for what is here already."""
    host = present_host()
    if host is not None and host.disk in ("read-only", "failing") and statement.lstrip().upper().startswith(WRITES):
        words, _ = SAYS[host.disk]
        refusal = sqlite3.OperationalError(words)
        refusal.sqlite_errorcode = CODES[host.disk]
        raise OperationalError(statement, None, refusal)


def linger(dice: random.Random) -> None:
    """Wait as long as a slow disk takes."""
    host = present_host()
    if host is not None and host.disk == "slow" and not kernel().transactions:
        kernel().sleep(dice.expovariate(1 / SLOW_S))


class Files:
    """`os`, for modules that write files: it knows what was written and not synced, and which disk takes nothing."""

    def __init__(self) -> None:
        self._paths: dict[int, str] = {}
        self._synced: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def getloadavg(self) -> tuple[float, float, float]:
        return (0.5, 0.5, 0.5)

    def statvfs(self, path: Any) -> Any:
        host, real = _host_with_disk(path), os.statvfs(path)
        if host is None or host.disk not in ("full", "read-only"):
            return real
        free, flags = (0, 0) if host.disk == "full" else (real.f_bavail, os.ST_RDONLY)
        return SimpleNamespace(f_bavail=free, f_frsize=real.f_frsize, f_flag=real.f_flag | flags)

    def open(self, path: Any, flags: int, mode: int = 0o777, **options: Any) -> int:
        host = _host_with_disk(path)
        if host is not None and host.disk == "read-only" and flags & FOR_WRITING:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        file = os.open(path, flags, mode, **options)
        if flags & os.O_CREAT:
            self._paths[file] = str(path)
            self._synced.discard(str(path))
        return file

    def write(self, file: int, content: Any) -> int:
        self._refuse(file)
        return os.write(file, content)

    def pwrite(self, file: int, content: Any, offset: int) -> int:
        self._refuse(file)
        return os.pwrite(file, content, offset)

    def _refuse(self, file: int) -> None:
        host = _host_with_disk(self._paths[file]) if file in self._paths else None
        if host is not None and host.disk in ("full", "failing"):
            _, number = SAYS[host.disk]
            raise OSError(number, os.strerror(number), self._paths[file])

    def fsync(self, file: int) -> None:
        self._synced.add(self._paths.get(file, ""))

    def close(self, file: int) -> None:
        self._paths.pop(file, None)
        if kernel().current is not None:
            threads.present_process().at_death.pop(("file", file), None)
        os.close(file)

    def replace(self, source: Any, target: Any) -> None:
        host, path = _host_with_disk(target), Path(target)
        if host is not None:
            if str(source) in self._synced:
                host.promised.pop(path, None)
            elif path not in host.promised:
                host.promised[path] = path.read_bytes() if path.exists() else None
        self._synced.discard(str(source))
        os.replace(source, target)


def _host_with_disk(path: Any) -> SimHost | None:
    """The host whose disk that path is on."""
    return None if f"/{MEMORY}/" in str(path) else present_host()


def lose_promises(host: SimHost, dice: random.Random) -> None:
    """The power is gone: of each file that was not synced there is what was there before, or nothing of it, or all."""
    for path, before in host.promised.items():
        fate = dice.choice(("before", "empty", "whole"))
        if not path.parent.exists() or fate == "whole":
            continue
        if fate == "empty":
            path.write_bytes(b"")
        elif before is None:
            path.unlink(missing_ok=True)
        else:
            path.write_bytes(before)
        host.kernel.note(f"{host.name} lost what was written to {path.name}: {fate}")
    host.promised.clear()
