"""The invariants of DESIGN.md that one host can check of itself. An empty answer is a healthy host."""

from __future__ import annotations

from collections.abc import Iterator

from garbi.base.audit import Violation
from garbi.base.errors import TemporaryError
from garbi.hyper.agent.kept import misplaced_disks
from garbi.hyper.drivers.protocol import Condition, Driver, Observation
from garbi.hyper.drivers.registry import DriverRegistry
from garbi.hyper.model.capacity import Capacity
from garbi.hyper.model.machine import Machine, State
from garbi.hyper.model.query import MachineQuery
from garbi.hyper.store import machines, meta
from garbi.hyper.store.database import Database

EXPECTED = {State.RUNNING: Condition.RUNNING, State.PAUSED: Condition.PAUSED, State.STOPPED: Condition.STOPPED}


class Audit:
    """Compares rows with what the drivers see."""

    def __init__(self, database: Database, drivers: DriverRegistry, capacity: Capacity) -> None:
        self._database = database
        self._drivers = drivers
        self._capacity = capacity

    def run(self) -> list[Violation]:
        """Check every invariant now; a driver that does not answer is a finding, not an error."""
        with self._database.read() as connection:
            rows = machines.search(connection, MachineQuery())
            mem, cpus = machines.reservation(connection)
        disks = misplaced_disks(self._database, self._drivers)
        return [*self._overcommitted(mem, cpus), *self._misplaced(rows), *disks]

    def _overcommitted(self, mem: int, cpus: int) -> Iterator[Violation]:
        for name, used, limit in (("mem", mem, self._capacity.mem), ("cpus", cpus, self._capacity.cpus)):
            if used > limit:
                yield Violation("I3", name, f"{used} reserved of {limit}")

    def _misplaced(self, rows: list[Machine]) -> Iterator[Violation]:
        """Every machine at a daemon has a row, and every settled row has its machine. Unused drivers have neither."""
        used = meta.used_drivers(self._database)
        for name in (name for name in self._drivers.names() if name in used):
            mine = {row.id: row for row in rows if row.type == name}
            try:
                driver = self._drivers.get(name)
                if not mine and not driver.info().available:
                    continue
                yield from _compare(driver, mine)
            except TemporaryError as error:
                if mine:
                    yield Violation("I5", name, f"cannot be checked: {error.detail}", certain=False)


def _compare(driver: Driver, rows: dict[str, Machine]) -> Iterator[Violation]:
    seen: dict[str, Observation] = {each.machine_id: each for each in driver.observe()}
    for machine_id in sorted(seen.keys() - rows.keys()):
        yield Violation("I5", machine_id, f"{seen[machine_id].condition} at the driver, but no machine has this id")
    for machine_id, row in sorted(rows.items()):
        expected = EXPECTED.get(row.state)
        found = seen[machine_id].condition if machine_id in seen else None
        if row.settled and expected is not None and found is not expected:
            yield Violation("I5", machine_id, f"{row.state} here, {found or 'absent'} at the driver")
