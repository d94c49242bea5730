"""Whose a machine of another agent is: an agent owns what bears the cluster id that is in the database of its data directory."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from garbi.hyper.drivers.protocol import MarkedMachine
from garbi.hyper.model.marks import read_marks
from garbi.hyper.store import meta
from garbi.hyper.store.traces import DATABASE as FILE


class Owners:
    """The agents of this host, as they are at this look: those in whose directories machines say that they were made, and those
    that run."""

    def __init__(self) -> None:
        self._of_directory: dict[str, str | None] = {}
        self._running: set[str] | None = None

    def has_owner(self, machine: MarkedMachine) -> bool:
        """Whether an agent of this host has the cluster id of a machine."""
        marks = read_marks(machine.marks)
        if marks is not None and self._cluster_of(marks.data_dir) in (machine.cluster_id, ""):
            return True
        return machine.cluster_id in self._of_running()

    def _of_running(self) -> set[str]:
        if self._running is None:
            self._running = {found for each in _open_directories() if (found := self._cluster_of(each))}
        return self._running

    def _cluster_of(self, directory: str) -> str | None:
        if directory not in self._of_directory:
            self._of_directory[directory] = read_cluster_id(Path(directory))
        return self._of_directory[directory]


def read_cluster_id(data_dir: Path) -> str | None:
    """The cluster id of the agent of a data directory; None where there is no agent, empty where that cannot be read."""
    file = data_dir / FILE
    try:
        if not file.exists():
            return None
        with contextlib.closing(sqlite3.connect(f"file:{quote(str(file))}?mode=ro", uri=True)) as database:
            row = database.execute("SELECT value FROM meta WHERE key = ?", (meta.CLUSTER_ID,)).fetchone()
    except (OSError, sqlite3.Error):
        return ""
    return str(row[0]) if row else None


def _open_directories() -> Iterator[str]:
    """The data directories of the agents that run, as far as their files may be seen."""
    for name in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            for each in os.scandir(f"/proc/{name}/fd"):
                target = os.readlink(each.path)
                if target.endswith(f"/{FILE}"):
                    yield target.removesuffix(f"/{FILE}")
                    break
