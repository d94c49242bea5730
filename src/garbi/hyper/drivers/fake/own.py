"""The machines of one agent among all that the pretended daemon has: nothing else is ever returned or changed."""

from __future__ import annotations

from collections.abc import Callable

from garbi.base.clock import Clock
from garbi.base.errors import AlreadyExists, Conflict, NotFound
from garbi.hyper.drivers.fake.daemon import FakeDaemon
from garbi.hyper.drivers.fake.machine import FakeMachine, half_made, key_of
from garbi.hyper.drivers.protocol import Condition, MachineDefinition, MarkedMachine


class OwnMachines:
    """The machines with the mark of one cluster, by their id, as they are at the present moment of the clock."""

    def __init__(self, daemon: FakeDaemon, cluster_id: str, clock: Clock) -> None:
        self._daemon = daemon
        self._cluster_id = cluster_id
        self._clock = clock

    def all(self) -> list[FakeMachine]:
        """All of them; those whose time has come have ended."""
        now = self._clock.monotonic()
        ours = [machine for machine in self._daemon.machines() if machine.cluster_id == self._cluster_id]
        return [self._up_to_date(machine, now) for machine in ours]

    def of_all_agents(self) -> list[MarkedMachine]:
        """Every machine that an agent made, ours or another's."""
        now = self._clock.monotonic()
        return [machine.at(now).marked() for machine in self._daemon.machines() if machine.cluster_id]

    def find(self, machine_id: str) -> FakeMachine | None:
        """The machine of that id, if it is ours."""
        found = self._daemon.machine(key_of(self._cluster_id, machine_id))
        if found is None or found.cluster_id != self._cluster_id:
            return None
        return self._up_to_date(found, self._clock.monotonic())

    def one(self, machine_id: str) -> FakeMachine:
        """The machine of that id; raises NotFound."""
        found = self.find(machine_id)
        if found is None:
            raise NotFound(f"there is no fake machine {machine_id}", id=machine_id)
        return found

    def claim(self, wanted: MachineDefinition) -> FakeMachine:
        """The machine, half made unless it was there; raises AlreadyExists when one that is not ours has its key."""

        def claimed(found: FakeMachine | None) -> FakeMachine:
            if found is None:
                return half_made(self._cluster_id, wanted)
            if found.cluster_id != self._cluster_id:
                raise AlreadyExists(f"a machine called {found.key} exists, and this agent did not make it")
            return found

        machine = self._daemon.change(key_of(self._cluster_id, wanted.id), claimed)
        assert machine is not None  # noqa: S101 - `claimed` never answers None
        return machine

    def change(self, machine_id: str, change: Callable[[FakeMachine], FakeMachine]) -> bool:
        """Change the machine if it is there; return whether it is."""
        now = self._clock.monotonic()
        there = False

        def ours_only(found: FakeMachine | None) -> FakeMachine | None:
            nonlocal there
            there = found is not None and found.cluster_id == self._cluster_id
            return change(found.at(now)) if found is not None and there else found

        self._daemon.change(key_of(self._cluster_id, machine_id), ours_only)
        return there

    def change_made(self, machine_id: str, change: Callable[[FakeMachine], FakeMachine]) -> None:
        """Change the machine; raises NotFound when it is not there, Conflict when it is only half made."""

        def made_only(found: FakeMachine) -> FakeMachine:
            if found.condition is Condition.PARTIAL:
                raise Conflict(f"machine {machine_id} is only half made")
            return change(found)

        if not self.change(machine_id, made_only):
            raise NotFound(f"there is no fake machine {machine_id}", id=machine_id)

    def drop(self, machine_id: str) -> None:
        """Delete the machine if it is there."""

        def others(found: FakeMachine | None) -> FakeMachine | None:
            return None if found is not None and found.cluster_id == self._cluster_id else found

        self._daemon.change(key_of(self._cluster_id, machine_id), others)

    def _up_to_date(self, machine: FakeMachine, now: float) -> FakeMachine:
        present = machine.at(now)
        if present is not machine:
            self._daemon.change(machine.key, lambda found: found and found.at(now))
        return present
