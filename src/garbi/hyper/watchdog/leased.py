"""Which machines of a host run under a controller's lease: by the agent's database, and by what stands on them at their engines.

The database may be lost, older or damaged. What its agent made is found then by the marks of the controller and of the data
directory, whatever cluster id that agent had. What neither tells of is never ended, and nothing is proven while it runs.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from garbi.base.errors import DatabaseUnavailable
from garbi.hyper.drivers.protocol import Condition, Identity, MarkedMachine
from garbi.hyper.main import DATABASE
from garbi.hyper.model.machine import Machine, NodeFailurePolicy, State, Wish
from garbi.hyper.model.marks import read_marks
from garbi.hyper.model.query import MachineQuery
from garbi.hyper.store import machines, meta
from garbi.hyper.store.database import Database
from garbi.hyper.watchdog.engines import Surveyed
from garbi.hyper_api.assignment import CONTROLLER_LABEL

log = logging.getLogger(__name__)

ON = (State.STARTING, State.RUNNING, State.PAUSED, State.STOPPING, State.UNKNOWN)
POWERED = (Condition.RUNNING, Condition.PAUSED)

NEVER_BEGUN = (State.PENDING, State.CREATING, State.STOPPED)
"""States whose machines do not run, unless somebody started them outside Garbi."""


@dataclass(frozen=True, slots=True)
class Target:
    """A machine that is to be ended; its engine knows it by the cluster id of its agent. `begun`: it may run, as far as known."""

    id: str
    type: str
    cluster_id: str
    begun: bool


@dataclass(frozen=True, slots=True)
class Records:
    """What the agent's database says: who the agent is, and its machines. `cluster_id` is empty when it is lost or unreadable."""

    cluster_id: str = ""
    rows: tuple[Machine, ...] = ()


@dataclass(frozen=True, slots=True)
class Leased:
    """The machines of one controller: those that end with its lease, the ids of those that are left as they are, and why others
    can be neither ended nor ruled out, by their ids."""

    ending: tuple[Target, ...] = ()
    left: frozenset[str] = frozenset()
    unknown: Mapping[str, str] = field(default_factory=dict)


def read_records(data_dir: Path) -> Records:
    """What the database of a data directory says; nothing where there is none, or it cannot be read."""
    path = data_dir / DATABASE
    if not path.exists():
        return Records()
    try:
        return _read(path)
    except DatabaseUnavailable as error:
        log.warning("the database says nothing: machines are judged by their marks", extra={"detail": error.detail})
        return Records()


def judge_rows(records: Records, controller: str, number: int) -> Leased:
    """The machines of a controller that the database has, as its leases up to `number` end."""
    ours = [row for row in records.rows if row.labels.get(CONTROLLER_LABEL) == controller]
    ending = [row for row in ours if row.on_node_failure is NodeFailurePolicy.RECREATE and max(row.lease, 1) <= number]
    ended = {row.id for row in ending}
    return Leased(
        tuple(Target(row.id, row.type, records.cluster_id, row.state not in NEVER_BEGUN) for row in ending),
        frozenset(row.id for row in ours if row.id not in ended and _may_run(row)),
    )


@dataclass(frozen=True, slots=True)
class MarkJudge:
    """Judges the machines that engines have and the database has not. `place` is the data directory as machines are marked with
    it; `owned` tells whether an agent of this host has a machine."""

    place: str
    owned: Callable[[MarkedMachine], bool]

    def judge(self, found: Surveyed, records: Records, controller: str, number: int) -> Leased:
        """The machines of a controller that are this data directory's by their marks, as its leases up to `number` end."""
        ending: list[Target] = []
        left: set[str] = set()
        unknown: dict[str, str] = {}
        for type_name, machine in self._ours(found, records, controller):
            on, marks = machine.condition in POWERED, read_marks(machine.marks)
            if machine.identity is Identity.UNSURE or marks is None:
                if on:
                    unknown[machine.machine_id] = _why_unknown(machine)
            elif marks.on_node_failure is NodeFailurePolicy.RECREATE and max(marks.lease, 1) <= number:
                ending.append(Target(machine.machine_id, type_name, machine.cluster_id, on))
            elif on:
                left.add(machine.machine_id)
        return Leased(tuple(ending), frozenset(left), unknown)

    def _ours(self, found: Surveyed, records: Records, controller: str) -> Iterator[tuple[str, MarkedMachine]]:
        rows = {(row.type, row.id) for row in records.rows}
        for type_name, machines_of_type in found.machines.items():
            made = {(each.cluster_id, each.machine_id) for each in machines_of_type if each.identity is Identity.MADE}
            for machine in _of_controller(machines_of_type, controller):
                own = machine.cluster_id == records.cluster_id
                unsure = machine.identity is Identity.UNSURE
                if unsure and (machine.cluster_id, machine.machine_id) in made:
                    continue  # that one is the machine, and this is none
                if own and not unsure and (type_name, machine.machine_id) in rows:
                    continue
                if own or self._is_of_this_directory(machine):
                    yield type_name, machine

    def _is_of_this_directory(self, machine: MarkedMachine) -> bool:
        """Whether an earlier agent of the data directory made it; without marks, any that is not here any more may have."""
        marks = read_marks(machine.marks)
        return marks.data_dir == self.place if marks is not None else not self.owned(machine)


def _of_controller(found: Iterable[MarkedMachine], controller: str) -> Iterator[MarkedMachine]:
    for machine in found:
        marks = read_marks(machine.marks)
        of = machine.labels.get(CONTROLLER_LABEL) if marks is None else marks.controller
        if of == controller and machine.identity is not Identity.COPY:
            yield machine


def _why_unknown(machine: MarkedMachine) -> str:
    if machine.identity is Identity.UNSURE:
        return f"{machine.place} bears its labels and another name, and nothing says whether it is that machine"
    return f"{machine.place} was made by an earlier version of Garbi, and no database says what it is"


def _may_run(row: Machine) -> bool:
    return row.state in ON or row.wish in (Wish.RUNNING, Wish.PAUSED)


def _read(path: Path) -> Records:
    try:
        with contextlib.closing(Database(path)) as database, database.read() as connection:
            cluster_id = meta.get(connection, meta.CLUSTER_ID) or ""
            return Records(cluster_id, tuple(machines.search(connection, MachineQuery())))
    except (SQLAlchemyError, ValueError, KeyError, TypeError) as error:
        raise DatabaseUnavailable(f"the machines cannot be read from {path}: {error}") from error
