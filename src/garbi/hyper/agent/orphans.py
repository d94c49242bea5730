"""What engines have of this agent without a row: what a lost database knew. A removal by id removes it as it does a machine.

So who removes a machine that "disappeared" leaves nothing of it behind, and what the audit names can be removed by hand.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain, count

from garbi.base.clock import Clock
from garbi.base.errors import Busy, DriverUnavailable, TemporaryError
from garbi.base.failpoints import reach
from garbi.base.names import NAME
from garbi.hyper.drivers.protocol import DiskKeeper, Driver
from garbi.hyper.drivers.registry import DriverRegistry
from garbi.hyper.model.event import EventKind
from garbi.hyper.store import events, machines, meta
from garbi.hyper.store.database import Database


class Orphans:
    """The things of one agent that have no row."""

    def __init__(self, database: Database, drivers: DriverRegistry, clock: Clock) -> None:
        self._database = database
        self._drivers = drivers
        self._clock = clock
        self._lock = threading.Lock()
        self._going: set[str] = set()

    def remove(self, machine_id: str, keep_s: int, epoch: int) -> bool:
        """Remove what engines have under that id; False when none has anything, or a machine has the id by now.

        With `keep_s` its disk is kept where its driver keeps disks. Raises DriverUnavailable while an engine that this agent has
        used does not answer: what is there may be there still.
        """
        if not NAME.match(machine_id) or not any(_has(driver, machine_id) for driver in self._used()):
            return False  # unclaimed: removals of what is gone come again, and at once, and get the same answer
        with self._claimed(machine_id):
            with self._database.write() as transaction:  # after every create that has begun to be written
                if machines.find(transaction.connection, machine_id) is not None:
                    return False
            found = [driver for driver in self._used() if _has(driver, machine_id)]
            for driver in found:
                if keep_s and isinstance(driver, DiskKeeper):
                    driver.kill(machine_id)
                    driver.keep_disk(machine_id, _free_name(driver, f"{machine_id}.{epoch}"))
                driver.remove(machine_id)
                reach("orphan.removed")
            if found:
                with self._database.write() as transaction:
                    reason = "it had no record here: it was removed by its id"
                    events.append_found(transaction, EventKind.REMOVED, machine_id, reason, self._clock.now())
        return bool(found)

    def check_free(self, machine_id: str) -> None:
        """Raise Busy while something of that id is being removed; in the transaction that makes a machine of it."""
        with self._lock:
            if machine_id in self._going:
                raise Busy(f"what engines have of {machine_id} is being removed; try again in a moment", field="id")

    @contextmanager
    def _claimed(self, machine_id: str) -> Iterator[None]:
        with self._lock:
            if machine_id in self._going:
                raise Busy(f"what engines have of {machine_id} is being removed already", field="id")
            self._going.add(machine_id)
        try:
            yield
        finally:
            with self._lock:
                self._going.discard(machine_id)

    def _used(self) -> list[Driver]:
        """The drivers that may have made something here; raises DriverUnavailable."""
        return [self._drivers.get(name) for name in meta.used_drivers(self._database)]


def _has(driver: Driver, machine_id: str) -> bool:
    try:
        return bool(driver.observe(machine_id))
    except DriverUnavailable:
        raise
    except TemporaryError as error:
        raise DriverUnavailable(f"it is not known whether {machine_id} is there: {error.detail}") from error


def _free_name(driver: DiskKeeper, first: str) -> str:
    given = driver.kept_disks()
    return next(name for name in chain([first], (f"{first}-{number}" for number in count(2))) if name not in given)
