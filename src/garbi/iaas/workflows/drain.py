"""Empties a node of what runs there: what can be made again elsewhere moves, the rest is stopped where it is."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from garbi.base.errors import Busy, Conflict, GarbiError, NotFound, StaleWrite
from garbi.base.failpoints import reach
from garbi.hyper_api.vocabulary import NodeFailurePolicy, State, Wish
from garbi.iaas.converge import DISAPPEARED, nothing_sent
from garbi.iaas.model.machine import Machine, MachineSpec
from garbi.iaas.model.operation import Operation
from garbi.iaas.nodes import speaking_to
from garbi.iaas.scheduler import Explanation
from garbi.iaas.store import events, machines
from garbi.iaas.store.database import Transaction
from garbi.iaas.workflows.hosts import Hosts
from garbi.iaas.workflows.steps import OnProgress, Step

PATIENCE_S = 120.0
"""How long one machine may take to stop or to go."""

LOOK_S = 1.0


class Mover(Protocol):
    """Finds other nodes for machines."""

    def explain(self, spec: MachineSpec) -> Explanation:
        """Where such a machine would go."""

    def replace(self, machine: Machine, exclude: Collection[str] = ()) -> Machine:
        """Assign a machine to another node."""


@dataclass(slots=True)
class _Account:
    """What became of the machines."""

    moved: list[str] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)

    def words(self) -> str:
        parts = ((self.moved, "moved"), (self.stopped, "stopped"), (self.left, "left as they are"))
        told = [
            f"{len(names)} {word} ({', '.join(names[:5])}{', …' * (len(names) > 5)})" for names, word in parts if names
        ]
        return "; ".join(told) or "no machine was there"


class Drain:
    """The operation `node-drain`. `holding` keeps workers off a machine, `wake` has them look at one."""

    def __init__(
        self,
        hosts: Hosts,
        mover: Mover,
        holding: Callable[[str], AbstractContextManager[None]],
        wake: Callable[[Machine], None],
    ) -> None:
        self._hosts = hosts
        self._mover = mover
        self._holding = holding
        self._wake = wake
        self._words: dict[str, str] = {}

    def steps(self, operation: Operation) -> list[Step]:
        """One step, which finds moved what was moved."""

        def empty(report: OnProgress, cancelled: threading.Event) -> None:
            self._words[operation.id] = self._empty(operation.target, report, cancelled)

        return [Step("moving and stopping machines", empty)]

    def conclude(self, transaction: Transaction, operation: Operation) -> str:
        """The node goes on draining until the user says otherwise; what was done is told."""
        return self._words.pop(operation.id, "")

    def fail(self, transaction: Transaction, operation: Operation, error: GarbiError) -> None:
        """The node takes nothing new all the same."""

    def after(self, operation: Operation) -> None:
        """Nothing more."""

    def _empty(self, name: str, report: OnProgress, cancelled: threading.Event) -> str:
        account = _Account()
        with self._hosts.database.read() as connection:
            there = [*machines.of_node(connection, name)]
        for number, machine in enumerate(there):
            report(number / len(there) / 2, f"machine {machine.id} ({number + 1} of {len(there)})")
            self._check_wanted(name, cancelled)
            while not self._deal_with(machine.id, name, account, cancelled):
                self._wait_told(machine.id, name, cancelled)
        for number, machine_id in enumerate(account.stopped):
            report(0.5 + number / len(account.stopped) / 4, f"waiting until machine {machine_id} has stopped")
            self._wait_stopped(machine_id, name, cancelled)
        for number, machine_id in enumerate(account.moved):
            report(0.75 + number / len(account.moved) / 4, f"waiting until machine {machine_id} is there")
            self._wait_arrived(machine_id, cancelled)
        return account.words()

    def _check_wanted(self, name: str, cancelled: threading.Event) -> None:
        if cancelled.is_set() or not self._hosts.node(name).draining:
            raise Conflict(f"node {name} is drained no more")

    def _deal_with(self, machine_id: str, name: str, account: _Account, cancelled: threading.Event) -> bool:
        """False when it cannot be dealt with yet."""
        with self._held(machine_id, name) as machine:
            if machine is None or machine.wish is Wish.REMOVED:
                return True
            if _is_being_told(machine):
                return False
            if _may_move(machine) and self._fits_elsewhere(machine) and self._move(machine, name, cancelled):
                account.moved.append(machine_id)
            elif _is_on(machine):
                self._stop(machine)
                account.stopped.append(machine_id)
            else:
                account.left.append(machine_id)
            return True

    def _wait_told(self, machine_id: str, name: str, cancelled: threading.Event) -> None:
        """An order to make a machine that comes late finds that it was carried out already, and has no effect."""
        deadline = self._hosts.clock.monotonic() + PATIENCE_S
        with self._hosts.feed.signal_of(machine_id) as changed:
            while True:
                changed.clear()
                machine = self._find(machine_id)
                if machine is None or machine.node != name or not _is_being_told(machine):
                    return
                self._check_wanted(name, cancelled)
                if self._hosts.clock.monotonic() >= deadline:
                    raise Busy(f"machine {machine_id} is being made, and nothing is known of it: {machine.reason}")
                changed.wait(LOOK_S)

    @contextmanager
    def _held(self, machine_id: str, name: str) -> Iterator[Machine | None]:
        """The machine as it is now, in nobody else's hands; None when it is no longer on the node."""
        try:
            with self._holding(machine_id):
                machine = self._find(machine_id)
                yield machine if machine is not None and machine.node == name else None
        finally:
            after = self._find(machine_id)
            if after is not None:
                self._wake(after)

    def _find(self, machine_id: str) -> Machine | None:
        with self._hosts.database.read() as connection:
            return machines.find(connection, machine_id)

    def _fits_elsewhere(self, machine: Machine) -> bool:
        """Asked before anything is removed: what has no other place stays where it is."""
        spec = MachineSpec(
            image=machine.image,
            type=machine.type,
            mem=machine.mem,
            cpus=machine.cpus,
            disk=machine.disk,
            labels=machine.labels,
            require=machine.require,
            apart=machine.apart,
        )
        try:
            return self._mover.explain(spec).chosen is not None
        except GarbiError:
            return False

    def _move(self, machine: Machine, name: str, cancelled: threading.Event) -> bool:
        """Remove a machine here, then assign it elsewhere: at no time does it run on two nodes."""
        if not nothing_sent(machine):
            self._remove(machine, name, cancelled)
        reach("drain.removed")
        try:
            self._mover.replace(machine, {name})
        except (NotFound, StaleWrite):
            return False
        reach("drain.moved")
        return True

    def _remove(self, machine: Machine, name: str, cancelled: threading.Event) -> None:
        deadline = self._hosts.clock.monotonic() + PATIENCE_S
        clients, node = self._hosts.clients, self._hosts.node(name)
        with speaking_to(name):
            while True:
                try:
                    assignment = clients.assignment(node, machine.epoch)
                    if clients.of(node).machines.remove(machine.id, wait_s=5, assignment=assignment) is None:
                        return
                except NotFound:
                    return
                if cancelled.is_set() or self._hosts.clock.monotonic() >= deadline:
                    raise Busy(f"machine {machine.id} did not go")

    def _stop(self, machine: Machine) -> None:
        with self._hosts.database.write() as transaction:
            now = self._hosts.clock.now()
            machines.save_wish(transaction, machine, Wish.STOPPED, now, machine.operation, actor=events.CONTROLLER)

    def _wait_stopped(self, machine_id: str, name: str, cancelled: threading.Event) -> None:
        deadline = self._hosts.clock.monotonic() + PATIENCE_S
        with self._hosts.feed.signal_of(machine_id) as changed:
            while True:
                changed.clear()
                machine = self._find(machine_id)
                if machine is None or machine.node != name or machine.settled or machine.wish is not Wish.STOPPED:
                    return
                self._check_wanted(name, cancelled)
                if self._hosts.clock.monotonic() >= deadline:
                    raise Busy(f"machine {machine_id} has not stopped: it is {machine.state}")
                changed.wait(LOOK_S)

    def _wait_arrived(self, machine_id: str, cancelled: threading.Event) -> None:
        """Who drains a node wants to know that all runs elsewhere; one that takes long is on its way, and no failure."""
        deadline = self._hosts.clock.monotonic() + PATIENCE_S
        with self._hosts.feed.signal_of(machine_id) as changed:
            while not cancelled.is_set() and self._hosts.clock.monotonic() < deadline:
                changed.clear()
                machine = self._find(machine_id)
                if machine is None or machine.settled:
                    return
                changed.wait(LOOK_S)


def _is_being_told(machine: Machine) -> bool:
    """Whether an order to make it may be on its way, of which its node has said nothing: it must not come after a move."""
    return machine.told_generation == 0 and not nothing_sent(machine)


def _may_move(machine: Machine) -> bool:
    """Whether it may be made again from its image; what had failed already is not revived, but for what we removed."""
    if machine.on_node_failure is not NodeFailurePolicy.RECREATE or machine.ports:
        return False
    return machine.state is not State.FAILED or machine.reason.startswith(DISAPPEARED)


def _is_on(machine: Machine) -> bool:
    return machine.wish in (Wish.RUNNING, Wish.PAUSED) and machine.state is not State.FAILED
