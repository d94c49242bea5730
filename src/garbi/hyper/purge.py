"""Takes an agent off a host for good: its machines, networks, pools, rules, image copies and files, and nothing else."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable
from pathlib import Path

from garbi.base.clock import SystemClock
from garbi.base.errors import NotFound
from garbi.base.failpoints import reach
from garbi.hyper.drivers.protocol import DiskKeeper, HostFootprint
from garbi.hyper.drivers.registry import DriverRegistry
from garbi.hyper.main import DATABASE, driver_context
from garbi.hyper.publishing.nftables import PublishingTable
from garbi.hyper.settings import Settings
from garbi.hyper.store import meta
from garbi.hyper.store.database import Database
from garbi.hyper.store.migrate import migrate
from garbi.storage.ballast import Ballast
from garbi.storage.lock import DataDirLock


def purge(settings: Settings, say: Callable[[str], None]) -> None:
    """Remove all that the agent of a data directory made, and the directory; `say` is told each thing that goes.

    Raises NotFound when no agent ever worked there, DataDirLocked while one works there, DriverUnavailable when a daemon that
    may still have machines does not answer: nothing is forgotten that was not removed.
    """
    if not (settings.data_dir / DATABASE).exists():
        raise NotFound(f"no agent has worked in {settings.data_dir}")
    Ballast(settings.data_dir).balance()
    lock = DataDirLock(settings.data_dir)
    try:
        migrate(settings.data_dir / DATABASE)
        database = Database(settings.data_dir / DATABASE)
        cluster_id = meta.get_or_set(database, meta.CLUSTER_ID, secrets.token_hex(16))
        clock = SystemClock()
        registry = DriverRegistry(lambda name: driver_context(settings, clock, cluster_id, name))
        for name in meta.used_drivers(database):
            _withdraw(registry, name, say)
            reach("purge.withdrawn")
        PublishingTable(cluster_id).clear()
        reach("purge.unpublished")
        registry.close()
        database.close()
        shutil.rmtree(settings.runtime, ignore_errors=True)
        _delete(settings.data_dir)
        say(f"data directory {settings.data_dir}")
    finally:
        lock.release()


def _delete(data_dir: Path) -> None:
    """Delete the directory, the database last: without it nobody could go on where this was interrupted."""
    for entry in data_dir.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
        elif not entry.name.startswith(DATABASE):
            entry.unlink()
    reach("purge.emptied")
    shutil.rmtree(data_dir)


def _withdraw(registry: DriverRegistry, name: str, say: Callable[[str], None]) -> None:
    driver = registry.get(name)
    for machine in driver.observe():
        driver.remove(machine.machine_id)
        say(f"{name} machine {machine.machine_id}")
    if isinstance(driver, DiskKeeper):
        for disk in driver.kept_disks():
            driver.drop_kept(disk)
            say(f"{name} kept disk {disk}")
    if isinstance(driver, HostFootprint):
        driver.withdraw()
        say(f"{name}: what it made for all machines")
