"""Puts the watchdog and the fence together from the settings of the agent beside them."""

from __future__ import annotations

import signal
import threading
from functools import partial
from importlib.metadata import EntryPoint
from pathlib import Path

from garbi.base import logs
from garbi.base.clock import Clock, SystemClock
from garbi.base.errors import StorageFailed
from garbi.base.hanging import PatientDisk, disk_of
from garbi.hyper.agent.owners import Owners
from garbi.hyper.drivers.protocol import MarkedMachine
from garbi.hyper.drivers.registry import DriverRegistry, installed
from garbi.hyper.host.capacity import boot_id
from garbi.hyper.leases.asking import ask_witnesses
from garbi.hyper.leases.inquiry import Ask
from garbi.hyper.main import SIMULATED, driver_context
from garbi.hyper.settings import Settings
from garbi.hyper.watchdog.ending import Ending
from garbi.hyper.watchdog.engines import Engines
from garbi.hyper.watchdog.engines import await_closing as await_closing
from garbi.hyper.watchdog.fence import Fence
from garbi.hyper.watchdog.kernel import KernelWatchdog
from garbi.hyper.watchdog.leased import MarkJudge
from garbi.hyper.watchdog.records import READ_S, RecordReader
from garbi.hyper.watchdog.stopping import Stopping
from garbi.hyper.watchdog.watchdog import Watchdog

OWNERS = Path("/proc")
"""Where the agents of this host are found, whatever disks their directories are on."""


def open_watchdog(
    settings: Settings, clock: Clock | None = None, simulated: bool = False, *, ask: Ask = ask_witnesses
) -> Watchdog:
    """The watchdog of a data directory; raises DataDirLocked when it has one, NotFound when there is no such directory."""
    clock = clock or SystemClock()
    disk = PatientDisk(settings.data_dir)
    records = RecordReader(settings.data_dir, settings.runtime, disk)
    kernel = KernelWatchdog(settings.kernel_watchdog) if settings.kernel_watchdog and not simulated else None
    return Watchdog(settings, disk, clock, boot_id(), _ending(settings, records, clock, simulated), ask, kernel)


def open_fence(settings: Settings, clock: Clock | None = None, simulated: bool = False) -> Fence:
    """The fence of a data directory, which may be lost."""
    clock = clock or SystemClock()
    disk = PatientDisk(settings.data_dir)
    records = RecordReader(settings.data_dir, settings.runtime, disk)
    return Fence(settings, disk, records, boot_id(), _ending(settings, records, clock, simulated), clock)


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
        await_closing()


def _has_owner(owners: Owners, machine: MarkedMachine) -> bool:
    """Whether an agent of this host has a machine; none whose directory does not answer, so that nothing is proven of it."""
    try:
        return disk_of(OWNERS).within(READ_S, lambda: owners.has_owner(machine))
    except StorageFailed:
        return False


def _ending(settings: Settings, records: RecordReader, clock: Clock, simulated: bool) -> Ending:
    found: list[EntryPoint] = installed(SIMULATED) if simulated else installed()

    def drivers(cluster_id: str) -> DriverRegistry:
        return DriverRegistry(lambda name: driver_context(settings, clock, cluster_id, name, looks=True), found)

    def judge() -> MarkJudge:
        return MarkJudge(settings.place, partial(_has_owner, Owners()))

    return Ending(records, Engines(drivers), Stopping(drivers, clock), judge)
