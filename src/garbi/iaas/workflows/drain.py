"""Empties a node of what runs there: what can be made again elsewhere moves, the rest is stopped where it is."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from typing import Protocol

from garbi.base.errors import Busy, Conflict, GarbiError, StaleWrite
from garbi.base.failpoints import reach
from garbi.hyper_api.vocabulary import NodeFailurePolicy, State, Wish
from garbi.iaas.converge import DISAPPEARED, nothing_sent
from garbi.iaas.model.machine import Machine, Moving
from garbi.iaas.model.operation import Operation
from garbi.iaas.monitor.failover import ended_by_itself
from garbi.iaas.scheduler import Explanation
from garbi.iaas.store import events, machines, nodes
from garbi.iaas.store.database import Transaction
from garbi.iaas.workflows.hosts import Hosts
from garbi.iaas.workflows.steps import OnProgress, Step

PATIENCE_S = 120.0
"""How long one machine may take to stop or to go."""

LOOK_S = 1.0


class Mover(Protocol):
    """Finds other nodes for machines."""

    def explain_again(self, machine: Machine) -> Explanation:
        """Where a machine would go that leaves its node."""


@dataclass(slots=True)
class _Account:
    """What became of the machines."""

    moved: list[str] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)

    def words(self) -> str:
        parts = (
            (self.moved, "moved"),
            (self.waiting, "gone from here and without a place elsewhere yet"),
            (self.stopped, "stopped"),
            (self.left, "left as they are"),
        )
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
            while not self._deal_with(machine.id, name, account):
                self._wait_told(machine.id, name, cancelled)
            self._wait_gone(machine.id, name, cancelled)
        for number, machine_id in enumerate(account.stopped):
            report(0.5 + number / len(account.stopped) / 4, f"waiting until machine {machine_id} has stopped")
            self._wait_stopped(machine_id, name, cancelled)
        for number, machine_id in enumerate([*account.moved]):
            report(0.75 + number / len(account.moved) / 4, f"waiting until machine {machine_id} is there")
            self._wait_arrived(machine_id, cancelled)
            present = self._find(machine_id)
            if present is not None and present.moving is not Moving.NO:
                account.moved.remove(machine_id)
                account.waiting.append(machine_id)
        return account.words()

    def _check_wanted(self, name: str, cancelled: threading.Event) -> None:
        if cancelled.is_set() or not self._hosts.node(name).draining:
            raise Conflict(f"node {name} is drained no more")

    def _deal_with(self, machine_id: str, name: str, account: _Account) -> bool:
        """Write down what is to become of a machine, which its worker then sees to; False when that cannot be said yet."""
        with self._held(machine_id, name) as machine:
            if machine is None or machine.wish is Wish.REMOVED:
                return True
            if machine.moving is Moving.NO and _is_being_told(machine):
                return False
            try:
                self._decide(machine, name, account).append(machine_id)
            except StaleWrite:  # its node, or its user, was first
                return False
            return True

    def _decide(self, machine: Machine, name: str, account: _Account) -> list[str]:
        """Write it down, and return those who share its lot. Raises StaleWrite when the machine has changed."""
        if machine.moving is not Moving.NO or self._send_away(machine, name):
            return account.moved
        if machine.drained is not None:  # by an earlier drain, or by this one before the controller ended
            return account.stopped
        if not _is_on(machine):
            return account.left
        self._stop(machine, name)
        return account.stopped

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

    def _send_away(self, machine: Machine, name: str) -> bool:
        """Write down that a machine goes elsewhere, before anything is removed; once its worker has begun, that is completed.

        False when it stays: by its policy, or since no other node has room for it.
        """
        if not _may_move(machine) or not self._fits_elsewhere(machine):
            return False
        with self._hosts.database.write() as transaction:
            self._check_draining(transaction, name)
            now = self._hosts.clock.now()
            if machine.drained is not None:
                machine = machines.wish_again(transaction, machine, now)
            leaving = replace(
                machine,
                moving=Moving.WANTED,
                moving_why=f"node {name} is drained",
                settled_generation=0,
                updated_at=now,
            )
            if not machines.save_state(transaction, machine, leaving, actor=events.CONTROLLER):
                raise StaleWrite(f"machine {machine.id} has changed meanwhile", machine=machine.id)
        reach("drain.leaving.recorded")
        return True

    def _fits_elsewhere(self, machine: Machine) -> bool:
        """Asked before anything is removed: what has no other place stays where it is."""
        try:
            return self._mover.explain_again(machine).chosen is not None
        except GarbiError:
            return False

    def _check_draining(self, transaction: Transaction, name: str) -> None:
        """Raise Conflict when the node is drained no more; an undrain that comes now waits until this is written."""
        if not nodes.is_draining(transaction, name):
            raise Conflict(f"node {name} is drained no more")

    def _wait_gone(self, machine_id: str, name: str, cancelled: threading.Event) -> None:
        """One after the other, so that an undrain finds the rest where it was. What takes long is completed all the same."""
        deadline = self._hosts.clock.monotonic() + PATIENCE_S
        with self._hosts.feed.signal_of(machine_id) as changed:
            while True:
                changed.clear()
                machine = self._find(machine_id)
                if machine is None or machine.node != name or machine.moving not in (Moving.WANTED, Moving.LEAVING):
                    return
                self._check_wanted(name, cancelled)
                if self._hosts.clock.monotonic() >= deadline:
                    raise Busy(
                        f"machine {machine_id} has not gone yet; it goes elsewhere once it has: {machine.reason}"
                    )
                changed.wait(LOOK_S)

    def _stop(self, machine: Machine, name: str) -> None:
        with self._hosts.database.write() as transaction:
            self._check_draining(transaction, name)
            now, operation = self._hosts.clock.now(), machine.operation
            machines.save_wish(
                transaction, machine, Wish.STOPPED, now, operation, actor=events.CONTROLLER, drained=machine.wish
            )

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
    """Whether it may be made again from its image, as when its node dies; what had failed by itself is not revived."""
    if machine.on_node_failure is not NodeFailurePolicy.RECREATE:
        return False
    return not ended_by_itself(machine) or machine.reason.startswith(DISAPPEARED)


def _is_on(machine: Machine) -> bool:
    return machine.wish in (Wish.RUNNING, Wish.PAUSED) and machine.state is not State.FAILED
