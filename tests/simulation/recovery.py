"""What becomes of data directories of agents: databases lost, emptied, put back from a backup; whole directories of another."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from tests.simulation.databases import fresh_agent
from tests.simulation.nodes import Node

from garbi.hyper.main import DATABASE

if TYPE_CHECKING:
    from tests.simulation.cloud import Cloud

BESIDE = ("", "-wal", "-shm")
BACKUP_EVERY_S = 1200.0


class Recovery:
    """Does it to the hosts of one cloud. Every host has a backup of its agent's database, some minutes old."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    def start(self) -> None:
        """Begin to make backups."""
        self._cloud.kernel.after(BACKUP_EVERY_S, self._back_up)

    def spoil(self, node: Node, how: str) -> None:
        """The database of an agent that does not run is `lost`, `emptied`, or replaced by an `older` one."""
        path = node.settings.data_dir / DATABASE
        backup = self._backup(node)
        self._cloud.kernel.note(f"the database of {node.name} is {how}")
        if how == "older" and not backup.exists():
            return
        node.spoiled = True
        _forget(path)
        if how == "emptied":
            path.write_bytes(fresh_agent())
        elif how == "older":
            _copy(backup, path)

    def lend(self, node: Node, other: Node) -> None:
        """Have a host come up with a copy of another's data directory; its agent and watchdog end."""
        self._cloud.kill_agent(node)
        if node.watchdog is not None:
            node.watchdog.kill()
        own = node.settings.data_dir
        node.lent = True
        own.rename(self._kept(node))
        shutil.copytree(other.settings.data_dir, own)
        self._cloud.kernel.note(f"{node.name} has a copy of the data of {other.name}")
        self._cloud.start_watchdog(node)

    def give_back(self, node: Node) -> None:
        """Put back what a host had before."""
        if not node.lent:
            return
        self._cloud.kill_agent(node)
        if node.watchdog is not None:
            node.watchdog.kill()
        shutil.rmtree(node.settings.data_dir)
        self._kept(node).rename(node.settings.data_dir)
        node.lent = False
        self._cloud.kernel.note(f"{node.name} has its own data again")
        self._cloud.start_agent(node)
        self._cloud.start_watchdog(node)

    def _back_up(self) -> None:
        for node in self._cloud.nodes.values():
            path = node.settings.data_dir / DATABASE
            if not node.lent and path.exists():
                _forget(self._backup(node))
                _copy(path, self._backup(node))
        self._cloud.kernel.after(BACKUP_EVERY_S, self._back_up)

    def _backup(self, node: Node) -> Path:
        return self._cloud.root / f"{node.name}.backup.db"

    def _kept(self, node: Node) -> Path:
        return self._cloud.root / f"{node.name}.own"


def _forget(path: Path) -> None:
    for end in BESIDE:
        path.with_name(path.name + end).unlink(missing_ok=True)


def _copy(source: Path, target: Path) -> None:
    for end in BESIDE[:2]:
        part = source.with_name(source.name + end)
        if part.exists():
            shutil.copy2(part, target.with_name(target.name + end))
