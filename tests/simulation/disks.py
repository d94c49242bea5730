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
        raise OperationalError(statement, None, sqlite3.OperationalError(words))


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
        host = present_host()
        if host is not None and host.disk == "full":
            return SimpleNamespace(f_bavail=0, f_frsize=4096)
        return os.statvfs(path)

    def open(self, path: Any, flags: int, mode: int = 0o777, **options: Any) -> int:
        host = _host_with_disk(path)
        if host is not None and host.disk == "read-only" and flags & os.O_TRUNC:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        file = os.open(path, flags, mode, **options)
        if flags & os.O_CREAT:
            self._paths[file] = str(path)
            self._synced.discard(str(path))
        return file

    def write(self, file: int, content: Any) -> int:
        host = _host_with_disk(self._paths.get(file, ""))
        if host is not None and host.disk in ("full", "failing") and file in self._paths:
            _, number = SAYS[host.disk]
            raise OSError(number, os.strerror(number), self._paths[file])
        return os.write(file, content)

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
