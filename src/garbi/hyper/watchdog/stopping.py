"""Ends machines by their drivers; where a daemon does not answer, or does not do it, by killing what runs of them.

What is verified does not run: neither the daemon says so, nor is a process of it left.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from garbi.base.clock import Clock
from garbi.base.errors import GarbiError
from garbi.hyper.drivers.protocol import Condition, Driver, ProcessFinder
from garbi.hyper.drivers.registry import DriverRegistry
from garbi.hyper.watchdog.killing import kill_all
from garbi.hyper.watchdog.leased import Target

log = logging.getLogger(__name__)

DAEMON_S = 3.0
"""How long daemons have, all machines together."""

KILL_S = 2.0
"""How long killed processes have to be gone."""

GLANCE_S = 0.05
WORKERS = 8

ON = (Condition.RUNNING, Condition.PAUSED)


@dataclass(slots=True)
class _Attempt:
    """What became of one machine. `off` is what its daemon said last; None: it has not answered."""

    machine: Target
    driver: Driver | None
    words: str
    ran: bool = False
    off: bool | None = None


@dataclass(frozen=True, slots=True)
class Stopped:
    """What became of machines: the ids of those that ran and do not any more, and why others may still run."""

    stopped: tuple[str, ...] = ()
    running: dict[str, str] = field(default_factory=dict)


class Stopping:
    """Ends machines. Each time with drivers of its own, so that nothing that hangs comes to life later and does harm."""

    def __init__(self, drivers: Callable[[str], DriverRegistry], clock: Clock) -> None:
        """Take the `drivers` of an agent, by its cluster id."""
        self._drivers = drivers
        self._clock = clock

    def stop(self, machines: Sequence[Target]) -> Stopped:
        """End the machines; return when all are verified not to run, or nothing more can be done now. Never raises."""
        if not machines:
            return Stopped()
        registries = {cluster_id: self._drivers(cluster_id) for cluster_id in {each.cluster_id for each in machines}}
        try:
            attempts = [_Attempt(each, *_driver_of(each, registries[each.cluster_id])) for each in machines]
            self._ask_daemons([each for each in attempts if each.driver is not None])
            running = self._end_processes(attempts)
        finally:
            for registry in registries.values():
                threading.Thread(target=_close, args=(registry,), name="stopping-close", daemon=True).start()
        return Stopped(
            tuple(each.machine.id for each in attempts if each.ran and each.machine.id not in running), running
        )

    def _ask_daemons(self, attempts: list[_Attempt]) -> None:
        """Have each driver kill its machines, a few at a time; who hangs holds up only those of the same type."""
        over, done = threading.Event(), threading.Event()
        missing = {each.machine for each in attempts}
        lock = threading.Lock()

        def work(queue: list[_Attempt]) -> None:
            while not over.is_set():
                with lock:
                    attempt = queue.pop(0) if queue else None
                if attempt is None:
                    return
                _ask(attempt)
                with lock:
                    missing.discard(attempt.machine)
                    if not missing:
                        done.set()

        for type_name in sorted({each.machine.type for each in attempts}):
            queue = [each for each in attempts if each.machine.type == type_name]
            for _ in range(min(WORKERS, len(queue))):
                threading.Thread(target=work, args=(queue,), name=f"stopping-{type_name}", daemon=True).start()
        if attempts:
            done.wait(DAEMON_S)
        over.set()

    def _end_processes(self, attempts: list[_Attempt]) -> dict[str, str]:
        """Kill what is left of the machines; return why those may run of which that cannot be ruled out."""
        deadline = self._clock.monotonic() + KILL_S
        left = attempts
        while True:
            found = {each.machine: _end(each) for each in left}
            left = [each for each in left if found[each.machine] is not None]
            if not left or self._clock.monotonic() >= deadline:
                return {machine.id: why for machine, why in found.items() if why is not None}
            threading.Event().wait(GLANCE_S)


def _driver_of(machine: Target, registry: DriverRegistry) -> tuple[Driver | None, str]:
    try:
        return registry.get(machine.type), f"the daemon of type {machine.type} does not answer"
    except GarbiError as error:
        return None, error.detail


def _ask(attempt: _Attempt) -> None:
    machine_id, driver = attempt.machine.id, attempt.driver
    assert driver is not None  # noqa: S101 - others are not asked
    try:
        if not _is_on(driver, machine_id):
            attempt.off = True
            return
        attempt.ran = True
        driver.kill(machine_id)
        attempt.off = not _is_on(driver, machine_id)
        attempt.words = "its daemon says that it runs"
    except GarbiError as error:
        attempt.words = error.detail
    except Exception:  # whatever a driver does, the other machines are to be ended
        log.exception("a machine could not be ended", extra={"machine": machine_id})


def _is_on(driver: Driver, machine_id: str) -> bool:
    return any(seen.condition in ON for seen in driver.observe(machine_id))


def _end(attempt: _Attempt) -> str | None:
    """Kill what is left of a machine; why it may still run, or None when it certainly does not."""
    driver, machine = attempt.driver, attempt.machine
    if isinstance(driver, ProcessFinder):
        finder = driver
        try:
            if not kill_all(lambda: finder.processes_of(machine.id)):
                return attempt.words if attempt.off is False else None
        except GarbiError as error:
            return None if attempt.off or (attempt.off is None and not machine.begun) else error.detail
        attempt.ran = True
        return "its processes do not end"
    return None if attempt.off else attempt.words


def _close(registry: DriverRegistry) -> None:
    try:
        registry.close()
    except GarbiError as error:
        log.info("a driver could not be closed", extra={"detail": error.detail})
