"""Looks after kept disks: lets them grow older while the agent runs, drops those whose time is over, adopts strays.

Their age is counted in monotonic seconds, so that no clock that jumps makes a disk go early.
"""

from __future__ import annotations

import logging
import threading
from contextlib import suppress

from garbi.base.clock import Clock
from garbi.base.errors import AbilityMissing, DriverUnavailable, GarbiError
from garbi.base.failpoints import reach
from garbi.hyper.drivers.protocol import DiskKeeper, KeptDisk
from garbi.hyper.drivers.registry import DriverRegistry
from garbi.hyper.model.kept import Kept, epoch_in
from garbi.hyper.store import kept, meta
from garbi.hyper.store.database import Database

log = logging.getLogger(__name__)

PERIOD_S = 600.0
"""Pause between two rounds: so much longer a disk may stay, and so much younger a crash may make it."""

STRAY_KEEP_S = 7 * 24 * 3600
"""How long a disk stays that was found without a row: nobody says how long it was to be kept."""


class Keeping:
    """The thread that looks after the kept disks of one agent."""

    def __init__(self, database: Database, drivers: DriverRegistry, clock: Clock) -> None:
        self._database = database
        self._drivers = drivers
        self._clock = clock
        self._counted = clock.monotonic()
        self._dropping = threading.Lock()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="keeping", daemon=True)

    def start(self) -> None:
        """Begin to look after them."""
        self._counted = self._clock.monotonic()
        self._thread.start()

    def stop(self) -> None:
        """Drop no more; what was begun is done again after the next start."""
        self._closing.set()

    def join(self, patience_s: float) -> None:
        """Wait for the thread, at most `patience_s` seconds."""
        self._thread.join(patience_s)

    def keeper(self, type_name: str) -> DiskKeeper:
        """The driver of that type, which keeps disks; raises DriverUnavailable, AbilityMissing."""
        driver = self._drivers.find(type_name) if type_name in self._drivers.names() else None
        if driver is None:
            raise DriverUnavailable(f"driver {type_name} is not there, which keeps the disk", driver=type_name)
        if not isinstance(driver, DiskKeeper):
            raise AbilityMissing(f"driver {type_name} keeps no disks, as it is set up now", driver=type_name)
        return driver

    def drop(self, name: str) -> None:
        """Delete a kept disk, its row last: as long as anything may be left of it, it can be dropped again.

        Raises NotFound; Busy while another disk of the same machine is being kept; what the driver raises.
        """
        with self._dropping:
            with self._database.read() as connection:
                record = kept.check_free(connection, name)
            reach("kept.drop.begin")
            self.keeper(record.type).drop_kept(name)
            reach("kept.drop.gone")
            with self._database.write() as transaction:
                kept.delete_kept(transaction, name)
            reach("kept.drop.recorded")

    def round(self) -> None:
        """Count the time since the last round, drop what is due, adopt what has no row."""
        self._grow_older()
        with self._database.read() as connection:
            due = kept.list_due(connection)
        for record in due:
            self._drop_due(record)
        for type_name in meta.used_drivers(self._database):
            self._adopt(type_name)

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                self.round()
            except GarbiError as error:  # a disk that takes nothing now
                log.warning("kept disks were not looked after", extra={"detail": error.detail})
            except Exception:  # the loop has to survive what it cannot foresee
                if not self._closing.is_set():
                    log.exception("looking after kept disks failed")
            self._closing.wait(PERIOD_S)
        with suppress(GarbiError):  # a full disk: then this run of the agent counts for a little less
            self._grow_older()

    def _grow_older(self) -> None:
        """Write down whole seconds; what is left of one counts the next time."""
        seconds = int(self._clock.monotonic() - self._counted)
        if seconds <= 0:
            return
        with self._database.read() as connection:
            any_kept = bool(kept.list_kept(connection))
        if any_kept:
            with self._database.write() as transaction:
                kept.advance(transaction, seconds)
        self._counted += seconds

    def _drop_due(self, record: Kept) -> None:
        if self._closing.is_set():
            return
        try:
            self.drop(record.name)
        except GarbiError as error:
            log.warning("kept disk stays", extra={"disk": record.name, "reason": error.detail})
        else:
            log.info("kept disk dropped: its time is over", extra={"disk": record.name})

    def _adopt(self, type_name: str) -> None:
        """Give a row to each disk that has none: a removal without keeping overtook one with it, or the database is older."""
        try:
            things = self.keeper(type_name).kept_disks()
        except GarbiError:
            return  # it keeps none, or will be asked again
        with self._database.read() as connection:
            known = {record.name for record in kept.list_kept(connection)}
        if things.keys() <= known:
            return
        with self._dropping:  # else a disk that is being dropped would look like a stray
            things = self.keeper(type_name).kept_disks()
            with self._database.write() as transaction:
                known = {record.name for record in kept.list_kept(transaction.connection)}
                awaited = kept.names_awaited(transaction.connection)
                for name in sorted(things.keys() - known - awaited):
                    kept.put_kept(transaction, self._stray(name, type_name, things[name]))
                    log.warning("kept disk without a row adopted", extra={"disk": name})

    def _stray(self, name: str, type_name: str, disk: KeptDisk) -> Kept:
        machine_id, _, rest = name.partition(".")
        return Kept(
            name=name,
            machine_id=machine_id,
            type=type_name,
            image_sha256="",
            epoch=epoch_in(rest.partition("-")[0]),
            place=disk.place,
            size=disk.size,
            kept_at=self._clock.now(),
            keep_s=STRAY_KEEP_S,
            age_s=0,
        )
