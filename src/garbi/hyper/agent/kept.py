"""Kept disks, as a user asks for them, and the look whether each is there that should be."""

from __future__ import annotations

from collections.abc import Iterator

from garbi.base.audit import Violation
from garbi.base.errors import GarbiError, NotFound
from garbi.hyper.drivers.protocol import DiskKeeper
from garbi.hyper.drivers.registry import DriverRegistry
from garbi.hyper.loops.keeping import Keeping
from garbi.hyper.model.kept import Kept
from garbi.hyper.store import kept, meta
from garbi.hyper.store.database import Database


class KeptDisks:
    """The verbs of kept disks. A disk is kept by the removal of its machine."""

    def __init__(self, database: Database, keeping: Keeping) -> None:
        self._database = database
        self._keeping = keeping

    def list(self) -> list[Kept]:
        """Every kept disk, by name."""
        with self._database.read() as connection:
            return kept.list_kept(connection)

    def get(self, name: str) -> Kept:
        """The kept disk of that name; raises NotFound."""
        with self._database.read() as connection:
            record = kept.find_kept(connection, name)
        if record is None:
            raise NotFound(f"no disk is kept as {name[:80]}")
        return record

    def remove(self, name: str) -> None:
        """Delete a kept disk before its time is over; raises NotFound, Busy, DriverUnavailable."""
        self._keeping.drop(name)


def misplaced_disks(database: Database, drivers: DriverRegistry) -> Iterator[Violation]:
    """Every kept disk at a daemon has a row, and every row its disk. One that is being kept at this moment has none yet."""
    for name in meta.used_drivers(database):
        driver = drivers.find(name) if name in drivers.names() else None
        if not isinstance(driver, DiskKeeper):
            continue
        try:
            things = driver.kept_disks()
        except GarbiError as error:
            yield Violation("I5", name, f"its kept disks cannot be checked: {error.detail}", certain=False)
            continue
        with database.read() as connection:
            rows = {record.name for record in kept.list_kept(connection) if record.type == name}
            awaited = kept.names_awaited(connection)
        for disk in sorted(things.keys() - rows - awaited):
            yield Violation("I5", disk, f"kept at the driver {name}, but no row says for how long")
        for disk in sorted(rows - things.keys()):
            yield Violation("I5", disk, f"it is to be kept, and absent at the driver {name}")
