"""Puts the simulation's threads, time, randomness, failpoints and host facts where the product looks for the real ones."""

from __future__ import annotations

import dataclasses
import fcntl
import importlib
import os
import pkgutil
import secrets
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any

from tests.simulation import disks, threads
from tests.simulation.disks import Files
from tests.simulation.kernel import kernel
from tests.simulation.serving import unthread_framework

import garbi
from garbi.base import failpoints
from garbi.hyper import main
from garbi.hyper.drivers.fake import obstacles
from garbi.hyper.host import capacity, identity
from garbi.storage import database, engine, room

LEFT_OUT = (
    "garbi.hyper.cli",
    "garbi.iaas.cli",
    "garbi.terminal",
    "garbi.devcloud",
    "garbi.hyper.drivers.docker",
    "garbi.hyper.drivers.libvirt",
    "garbi.hyper.images.tiny",
    "garbi.iaas.provisioning",
    "garbi.base.clock",
)
"""Parts that no simulated process uses, or that are to have the real thing."""

MEMORY_MIB = 65536


def modules() -> Iterator[ModuleType]:
    """Every module of the product that a simulated process may use, imported."""
    for found in pkgutil.walk_packages(garbi.__path__, "garbi."):
        if not found.name.startswith(LEFT_OUT) and ".migrations" not in found.name:
            yield importlib.import_module(found.name)


def patch() -> None:
    """Do it, once for this process."""
    replacements: dict[int, Any] = {
        id(threading): threads.THREADING,
        id(time): threads.TIME,
        id(secrets): threads.SECRETS,
        id(failpoints.reach): _reach,
        id(capacity.boot_id): lambda: threads.present_process().host.boot_id,
        id(capacity.memory_total_mib): lambda: MEMORY_MIB,
        id(capacity.memory_available_mib): lambda: MEMORY_MIB // 2,
        id(capacity.load_average): lambda: 0.5,
        id(capacity.run_delay_s): lambda: 0.0,
        id(capacity.hostname): lambda: threads.present_process().host.name,
        id(capacity.cpus): lambda: 4,
        id(identity.marks_of_host): lambda: {"machine-id": threads.present_process().host.name},
        id(room.disk_bytes): lambda _path: (1 << 40, 1 << 39),
    }
    for module in [*modules()]:
        for name, value in [*vars(module).items()]:
            if id(value) in replacements and not name.startswith("__"):
                setattr(module, name, replacements[id(value)])
    _patch_factories()
    _patch_databases()
    _patch_files()
    _patch_pools()
    _patch_obstacles()
    _patch_records()
    unthread_framework()
    sys.modules["garbi.base.failpoints"].reach = _reach  # type: ignore[attr-defined]


def _patch_factories() -> None:
    """Default factories of dataclasses were taken from `threading` when the class was made: they are in its `__init__`."""
    simulated = {
        id(getattr(threading, name)): getattr(threads.THREADING, name)
        for name in ("Event", "Lock", "RLock", "Condition", "Semaphore", "BoundedSemaphore", "local")
    }
    for module in [*sys.modules.values()]:
        if module.__name__.startswith("garbi."):
            for owner in [*vars(module).values()]:
                if isinstance(owner, type) and dataclasses.is_dataclass(owner):
                    for cell in getattr(owner.__init__, "__closure__", None) or ():
                        if id(cell.cell_contents) in simulated:
                            cell.cell_contents = simulated[id(cell.cell_contents)]


def _reach(name: str) -> None:
    present = kernel()
    if present.current is None:
        return
    if present.on_reach is not None:
        present.on_reach(name)
    present.give_way()


def _patch_databases() -> None:
    """Others may go on before and after a transaction, never inside; connections belong to the process that opened them."""
    for name in ("read", "write"):
        setattr(database.Database, name, _giving_way(getattr(database.Database, name)))
    real = engine.make_engine
    for module in [engine, database, *sys.modules.values()]:
        if getattr(module, "make_engine", None) is real:
            module.make_engine = lambda *args, **options: _watched(real(*args, **options))  # type: ignore[attr-defined]


def _giving_way(real: Callable[..., Any]) -> Callable[..., Any]:
    @contextmanager
    def wrapped(self: Any) -> Iterator[Any]:
        kernel().give_way()
        disks.linger(kernel().dice)
        with real(self) as given:
            yield given
        kernel().give_way()

    return wrapped


def _watched(made: Any) -> Any:
    from sqlalchemy import event

    def opened(connection: Any, _record: Any) -> None:
        if kernel().current is None:
            return
        process = threads.present_process()

        def take_back() -> None:
            if connection.in_transaction:
                connection.rollback()
            connection.close()

        process.at_death[id(connection)] = take_back

    def closed(connection: Any, _record: Any) -> None:
        if kernel().current is not None:
            threads.present_process().at_death.pop(id(connection), None)

    def begun(_connection: Any) -> None:
        kernel().transactions += 1

    def ended(_connection: Any) -> None:
        kernel().transactions -= 1

    event.listen(made, "before_cursor_execute", disks.refuse_statement)
    event.listen(made, "connect", opened)
    event.listen(made, "close", closed)
    event.listen(made, "begin", begun)
    event.listen(made, "commit", ended)
    event.listen(made, "rollback", ended)
    return made


class _Locking:
    """`fcntl` for them."""

    def __getattr__(self, name: str) -> Any:
        return getattr(fcntl, name)

    def flock(self, file: int, operation: int) -> None:
        fcntl.flock(file, operation)
        if operation & fcntl.LOCK_EX and kernel().current is not None:
            threads.present_process().at_death["file", file] = lambda: os.close(file)


def _patch_files() -> None:
    files = Files()
    for module in [*sys.modules.values()]:
        if module.__name__.startswith("garbi.") and getattr(module, "fcntl", None) is fcntl:
            module.fcntl = _Locking()  # type: ignore[attr-defined]
        if module.__name__.startswith("garbi.") and getattr(module, "os", None) is os:
            module.os = files  # type: ignore[attr-defined]


def _patch_pools() -> None:
    """Endpoints that name a pool of threads of their own run where their request is served, too."""
    inlined = SimpleNamespace(run_sync=_run_here)
    for module in [*sys.modules.values()]:
        if module.__name__.startswith("garbi.hyper.rest") and hasattr(module, "to_thread"):
            module.to_thread = inlined  # type: ignore[attr-defined]


async def _run_here(work: Callable[..., Any], *args: Any, **_options: Any) -> Any:
    return work(*args)


def _patch_obstacles() -> None:
    """A step takes as long as its host has it take, and its thread waits for that once, not in glances."""

    def wait(self: Any, seconds: float) -> None:
        self._closed.wait(seconds)

    real = obstacles.Obstacles.pass_by

    def pass_by(self: Any, verb: str, machine_id: str | None = None) -> None:
        slow = threads.present_process().host.slow.get(verb, 0.0)
        if slow:
            self._closed.wait(slow)
        real(self, verb, machine_id)

    obstacles.Obstacles._wait = wait  # type: ignore[method-assign]
    obstacles.Obstacles.pass_by = pass_by  # type: ignore[method-assign]


def _patch_records() -> None:
    """Files of machines are to outlive a power cut, as on a real host; where machines are fake they need not."""
    real = main.MachineFiles
    main.MachineFiles = lambda *places, durable: real(*places, durable=True)  # type: ignore[assignment,misc]
