"""Puts the watchdog and the fence together from the settings of the agent beside them."""

from __future__ import annotations

import signal
import threading
from importlib.metadata import EntryPoint
from pathlib import Path

from garbi.base import logs
from garbi.base.clock import Clock, SystemClock
from garbi.hyper.agent.owners import Owners
from garbi.hyper.drivers.registry import DriverRegistry, installed
from garbi.hyper.host.capacity import boot_id
from garbi.hyper.leases.asking import ask_witnesses
from garbi.hyper.leases.inquiry import Ask
from garbi.hyper.main import SIMULATED, driver_context
from garbi.hyper.settings import Settings
from garbi.hyper.watchdog.ending import Ending
from garbi.hyper.watchdog.engines import Engines
from garbi.hyper.watchdog.fence import Fence
from garbi.hyper.watchdog.leased import MarkJudge
from garbi.hyper.watchdog.stopping import Stopping
from garbi.hyper.watchdog.watchdog import Watchdog


def open_watchdog(
    settings: Settings, clock: Clock | None = None, simulated: bool = False, *, ask: Ask = ask_witnesses
) -> Watchdog:
    """The watchdog of a data directory; raises DataDirLocked when it has one, NotFound when there is no such directory."""
    clock = clock or SystemClock()
    return Watchdog(settings.data_dir, clock, boot_id(), _ending(settings, clock, simulated), ask)


def open_fence(settings: Settings, clock: Clock | None = None, simulated: bool = False) -> Fence:
    """The fence of a data directory, which may be lost."""
    clock = clock or SystemClock()
    return Fence(settings.data_dir, boot_id(), _ending(settings, clock, simulated), clock)


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


def _ending(settings: Settings, clock: Clock, simulated: bool) -> Ending:
    found: list[EntryPoint] = installed(SIMULATED) if simulated else installed()

    def drivers(cluster_id: str) -> DriverRegistry:
        return DriverRegistry(lambda name: driver_context(settings, clock, cluster_id, name, looks=True), found)

    def judge() -> MarkJudge:
        return MarkJudge(settings.place, Owners().has_owner)

    return Ending(settings.data_dir, Engines(drivers), Stopping(drivers, clock), judge)
