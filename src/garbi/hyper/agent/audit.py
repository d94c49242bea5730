"""The audit of a host: all that it can check of itself, by what is written down and by what drivers and kernel say."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from garbi.base.audit import Violation, readable_secrets
from garbi.base.errors import TemporaryError
from garbi.hyper.agent import invariants
from garbi.hyper.agent.kept import misplaced_disks
from garbi.hyper.agent.strangers import strangers
from garbi.hyper.drivers.protocol import Condition, Driver, Observation
from garbi.hyper.drivers.registry import DriverRegistry
from garbi.hyper.images.library import ImageLibrary
from garbi.hyper.loops.publisher import Publisher
from garbi.hyper.model.capacity import Capacity
from garbi.hyper.model.machine import Machine, State
from garbi.hyper.model.query import MachineQuery
from garbi.hyper.store import events, machines, meta
from garbi.hyper.store.database import Database

AUDITED = ("I2", "I3", "I4", "I5", "I10", "I11", "I14")
"""The invariants that a host can check of itself; the others are for the controller, or for tests alone."""

EXPECTED = {State.RUNNING: Condition.RUNNING, State.PAUSED: Condition.PAUSED, State.STOPPED: Condition.STOPPED}
RUNNING = (Condition.RUNNING, Condition.PAUSED)

Seen = dict[str, Observation]


@dataclass(frozen=True, slots=True)
class Audit:
    """What is compared with what. `hold` says why a machine may not run now."""

    database: Database
    drivers: DriverRegistry
    capacity: Capacity
    publisher: Publisher
    library: ImageLibrary
    hold: Callable[[Machine], str | None]
    data_dir: Path
    cluster_id: str

    def run(self) -> list[Violation]:
        """Check every invariant now; a driver that does not answer is a finding, not an error."""
        with self.database.read() as connection:
            rows = machines.search(connection, MachineQuery())
            mem, cpus = machines.reservation(connection)
            lost = events.lost_machines(connection)
        seen: Seen = {}
        return [
            *invariants.ports_of_others(rows, self.publisher, self.drivers),
            *invariants.overcommitted(mem, cpus, self.capacity),
            *invariants.lost_from_sight(lost, rows),
            *self._misplaced(rows, seen),
            *misplaced_disks(self.database, self.drivers),
            *strangers(self.cluster_id, self.drivers),
            *invariants.stray_leads(self.publisher),
            *invariants.images(self.library),
            *invariants.running_without_lease(rows, lambda row: _runs(seen.get(row.id)), self.hold),
            *readable_secrets(self.data_dir),
        ]

    def _misplaced(self, rows: list[Machine], seen: Seen) -> Iterator[Violation]:
        """I5: every machine at a daemon has a row, and every settled row its machine; fills in what was `seen`.

        Unused drivers have neither.
        """
        used = meta.used_drivers(self.database)
        for name in (name for name in self.drivers.names() if name in used):
            mine = {row.id: row for row in rows if row.type == name}
            try:
                driver = self.drivers.get(name)
                if not mine and not driver.info().available:
                    continue
                found = _look(driver)
                seen |= {machine_id: each for machine_id, each in found.items() if machine_id in mine}
                yield from _compare(found, mine)
            except TemporaryError as error:
                if mine:
                    yield Violation("I5", name, f"cannot be checked: {error.detail}", certain=False)


def _look(driver: Driver) -> Seen:
    return {each.machine_id: each for each in driver.observe()}


def _runs(observation: Observation | None) -> bool:
    return observation is not None and observation.condition in RUNNING


def _compare(seen: Seen, rows: dict[str, Machine]) -> Iterator[Violation]:
    for machine_id in sorted(seen.keys() - rows.keys()):
        yield Violation("I5", machine_id, f"{seen[machine_id].condition} at the driver, but no machine has this id")
    for machine_id, row in sorted(rows.items()):
        expected = EXPECTED.get(row.state)
        found = seen[machine_id].condition if machine_id in seen else None
        if row.settled and expected is not None and found is not expected:
            yield Violation("I5", machine_id, f"{row.state} here, {found or 'absent'} at the driver")
