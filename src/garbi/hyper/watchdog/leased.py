"""Which machines of a host run under a controller's lease: by what is written down, and by what stands on them at their engines.

The database may be lost, older or damaged, and the files with it. What its agent made is found then by the marks of the
controller and of the data directory, whatever cluster id that agent had. What neither tells of is never ended, and nothing is
proven while it runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from garbi.hyper.drivers.protocol import Condition, Identity, MarkedMachine
from garbi.hyper.model.machine import NodeFailurePolicy, State, Wish
from garbi.hyper.model.marks import read_marks
from garbi.hyper.watchdog.engines import Surveyed
from garbi.hyper.watchdog.records import Records
from garbi.hyper_api.assignment import CONTROLLER_LABEL

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
class Leased:
    """The machines of one controller: those that end with its lease, the ids of those that are left as they are, and why others
    can be neither ended nor ruled out, by their ids."""

    ending: tuple[Target, ...] = ()
    left: frozenset[str] = frozenset()
    unknown: Mapping[str, str] = field(default_factory=dict)


def judge_records(records: Records, controller: str, number: int) -> Leased:
    """The machines of a controller that are written down, as its leases up to `number` end."""
    ending: list[Target] = []
    left: set[str] = set()
    for known in records.machines:
        machine = known.machine
        if machine.labels.get(CONTROLLER_LABEL) != controller:
            continue
        if machine.on_node_failure is NodeFailurePolicy.RECREATE and max(machine.lease, 1) <= number:
            begun = machine.state not in NEVER_BEGUN
            ending.append(Target(machine.id, machine.type, known.cluster_id, begun))
        elif machine.state in ON or machine.wish in (Wish.RUNNING, Wish.PAUSED):
            left.add(machine.id)
    return Leased(tuple(ending), frozenset(left))


@dataclass(frozen=True, slots=True)
class MarkJudge:
    """Judges the machines that engines have and that are not written down.

    `place` is the data directory as machines are marked with it; `owned` tells whether an agent of this host has a machine.
    """

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
        written = {(each.cluster_id, each.machine.type, each.machine.id) for each in records.machines}
        for type_name, machines_of_type in found.machines.items():
            made = {(each.cluster_id, each.machine_id) for each in machines_of_type if each.identity is Identity.MADE}
            for machine in _of_controller(machines_of_type, controller):
                own = bool(records.cluster_id) and machine.cluster_id == records.cluster_id
                unsure = machine.identity is Identity.UNSURE
                if unsure and (machine.cluster_id, machine.machine_id) in made:
                    continue  # that one is the machine, and this is none
                if not unsure and (machine.cluster_id, type_name, machine.machine_id) in written:
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
