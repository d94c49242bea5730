"""Puts the watchdog and the fence together from the settings of the agent beside them."""

from __future__ import annotations

import signal
import threading
from functools import partial
from importlib.metadata import EntryPoint
from pathlib import Path

from garbi.base import logs
from garbi.base.clock import Clock, SystemClock
from garbi.base.errors import NotFound
from garbi.hyper.drivers.registry import DriverRegistry, installed
from garbi.hyper.host.capacity import boot_id
from garbi.hyper.leases.asking import ask_witnesses
from garbi.hyper.leases.files import LeaseFiles
from garbi.hyper.leases.inquiry import Ask
from garbi.hyper.main import DATABASE, SIMULATED, driver_context
from garbi.hyper.settings import Settings
from garbi.hyper.watchdog.fence import Fence
from garbi.hyper.watchdog.leased import read_cluster_id, read_leased
from garbi.hyper.watchdog.stopping import Stopping
from garbi.hyper.watchdog.watchdog import Watchdog


def open_watchdog(
    settings: Settings, clock: Clock | None = None, simulated: bool = False, *, ask: Ask = ask_witnesses
) -> Watchdog:
    """The watchdog of a data directory; raises DataDirLocked when it has one, NotFound when there is no such directory."""
    clock = clock or SystemClock()
    stopping = _stopping(settings, clock, simulated)
    leased = partial(read_leased, settings.data_dir)
    return Watchdog(settings.data_dir, clock, boot_id(), stopping, leased, ask)


def open_fence(settings: Settings, clock: Clock | None = None, simulated: bool = False) -> Fence:
    """The fence of a data directory; raises NotFound when no agent has worked there: a mark would fence nobody."""
    clock = clock or SystemClock()
    if not (settings.data_dir / DATABASE).exists():
        raise NotFound(f"no agent has worked in {settings.data_dir}")
    files, leased = LeaseFiles(settings.data_dir), partial(read_leased, settings.data_dir)
    return Fence(files, boot_id(), _stopping(settings, clock, simulated), leased, clock)


def guard(data_dir: Path | None = None) -> None:
    """Guard the agent's machines until SIGTERM or SIGINT."""
    logs.configure()
    ending = threading.Event()
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, lambda _signal, _frame: ending.set())
    watchdog = open_watchdog(Settings.from_environment(data_dir=data_dir))
    try:
        watchdog.run(ending)
    finally:
        watchdog.close()


def _stopping(settings: Settings, clock: Clock, simulated: bool) -> Stopping:
    found: list[EntryPoint] = installed(SIMULATED) if simulated else installed()

    def drivers() -> DriverRegistry:
        cluster_id = read_cluster_id(settings.data_dir)
        return DriverRegistry(lambda name: driver_context(settings, clock, cluster_id, name), found)

    return Stopping(drivers, clock)
