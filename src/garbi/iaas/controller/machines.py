"""Machines, as a user asks for them: what is refused, what is written down, and the wait for what becomes of it."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from sqlalchemy import Connection

from garbi.base.calls import Document
from garbi.base.clock import Clock, to_wire
from garbi.base.errors import (
    AbilityMissing,
    AlreadyInState,
    Conflict,
    DriverFailed,
    GarbiError,
    NodeUnreachable,
    NotFound,
    NothingFits,
)
from garbi.base.failpoints import reach
from garbi.base.problem import from_problem
from garbi.base.tally import Tally
from garbi.hyper_api.client import HyperClient
from garbi.hyper_api.vocabulary import State, Wish
from garbi.iaas.controller.placement import Accepted, Placement
from garbi.iaas.converge import DISAPPEARED, NEVER_AGAIN
from garbi.iaas.loops.work import Work
from garbi.iaas.model.machine import Machine, MachineSpec
from garbi.iaas.model.node import Node
from garbi.iaas.model.operation import Operation, OperationKind, OperationState
from garbi.iaas.monitor.verdict import TRUSTED
from garbi.iaas.nodes import NodeClients, speaking_to
from garbi.iaas.scheduler import Explanation
from garbi.iaas.store import machines as table
from garbi.iaas.store import nodes, operations
from garbi.iaas.store.database import Database, Transaction
from garbi.iaas.workflows.feed import EventFeed

REFUSALS = "placement_refusals"
"""What is counted of machines that no node could take, by the rule that spoke against one."""

TOLD = (State.STOPPED, State.STARTING, State.RUNNING, State.PAUSED, State.STOPPING)
"""States that a machine has by the word of its node alone."""

PAUSE = "pause"
"""The ability of drivers that can pause machines, as nodes tell it."""


class Machines:
    """The verbs of machines. Each writes the wish and returns at once; the nodes do the rest."""

    def __init__(
        self,
        database: Database,
        placement: Placement,
        work: Work,
        clients: NodeClients,
        feed: EventFeed,
        clock: Clock,
        tally: Tally,
    ) -> None:
        self._database = database
        self._placement = placement
        self._work = work
        self._clients = clients
        self._feed = feed
        self._clock = clock
        self._tally = tally

    def add(self, spec: MachineSpec, idempotency_key: str | None = None) -> Machine:
        """Accept a new machine: it has its id, node, ports and reservation when this returns, and will be made.

        With `idempotency_key`, a second call returns the machine of the first. Raises InvalidField, UnknownImage,
        UnknownType, AlreadyExists, PortTaken, NothingFits, NoSpace; nothing is kept of what was refused.
        """
        return self.answer(spec, idempotency_key).machine

    def answer(self, spec: MachineSpec, idempotency_key: str | None = None) -> Accepted:
        """What `add` does, for who has to know whether it was this request that made the machine."""
        try:
            accepted = self._placement.answer(spec, idempotency_key)
        except NothingFits as error:
            self._count_refusal(error)
            raise
        if not accepted.again:
            reach("machine.add.recorded")
            self._work.wake(accepted.machine)
        return accepted

    def explain(self, spec: MachineSpec) -> Explanation:
        """Where a machine would be put, and each node's verdict; nothing is placed."""
        return self._placement.explain(spec)

    def wish(self, machine_id: str, wish: Wish) -> Machine:
        """Wish a machine running, stopped or paused. A wish that is already being fulfilled changes nothing.

        Raises NotFound, AlreadyInState when it is so already, AbilityMissing, Conflict when it cannot be from here.
        """
        if wish is Wish.STOPPED:
            self._keep_stopped(machine_id)
        with self._database.write() as transaction:
            machine = self._get(transaction.connection, machine_id)
            if machine.wish is wish and not machine.settled:
                return machine
            node = nodes.find(transaction.connection, machine.node) if machine.node is not None else None
            _check_wish(machine, wish, node)
            machine = self._save_wish(transaction, machine, wish, OperationKind.MACHINE_WISH)
        reach("machine.wish.recorded")
        self._work.wake(machine)
        return machine

    def remove(self, machine_id: str) -> Machine:
        """Wish a machine away, whatever it is doing. Raises NotFound when it is gone."""
        with self._database.write() as transaction:
            machine = self._get(transaction.connection, machine_id)
            if machine.wish is not Wish.REMOVED or machine.settled:
                machine = self._save_wish(transaction, machine, Wish.REMOVED, OperationKind.MACHINE_REMOVE)
        reach("machine.wish.recorded")
        self._work.wake(machine)
        return machine

    def withdraw(self, asked: Machine) -> GarbiError | None:
        """Forget a machine that its node refused, as it was asked for; return the refusal, for the one who asked and waited.

        None, and nothing is changed, when there was no refusal, or when anybody has done anything with the machine since.
        """
        with self._database.write() as transaction:
            machine = table.find(transaction.connection, asked.id)
            if machine is None or not machine.refused or not machine.settled or not _is_still(machine, asked):
                return None
            operation = operations.find(transaction.connection, machine.operation or "")
            table.withdraw(transaction, machine, self._clock.now())
        if operation is None or operation.error is None:
            return DriverFailed(machine.reason, node=machine.node)
        document = dict(operation.error)
        return from_problem(document, int(document.get("status", 500)))

    def get(self, machine_id: str) -> Machine:
        """The machine with that id; raises NotFound, which says when it was removed if it was."""
        with self._database.read() as connection:
            return _fresh(connection, self._work, [self._get(connection, machine_id)])[0]

    def list(
        self, filters: Mapping[str, str] | None = None, limit: int | None = None, marker: str | None = None
    ) -> list[Machine]:
        """The machines whose fields equal the filters, the oldest first; raises UnknownFilter."""
        with self._database.read() as connection:
            return _fresh(connection, self._work, table.search(connection, filters, limit, marker))

    def wait_settled(self, machine_id: str, timeout_s: float) -> Machine | None:
        """Wait until its node has done what was last wished of a machine; return it, or None when it is gone.

        After `timeout_s` seconds return it as it is.
        """
        deadline = self._clock.monotonic() + timeout_s
        with self._feed.signal_of(machine_id) as changed:
            while True:
                changed.clear()
                with self._database.read() as connection:
                    machine = table.find(connection, machine_id)
                left = deadline - self._clock.monotonic()
                if machine is None or machine.settled or left <= 0:
                    return None if machine is None else self._with_seen(machine)
                changed.wait(left)

    def console_log(self, machine_id: str, limit: int) -> bytes:
        """The last `limit` bytes of a machine's console; raises NotFound, AbilityMissing, NodeUnreachable."""
        machine, client = self._on_node(machine_id)
        with speaking_to(machine.node or ""):
            return client.machines.log(machine.id, limit).encode()

    def figures(self, machine_id: str) -> Document:
        """Live figures of a running machine, as its node tells them; raises NotFound, AbilityMissing, Conflict."""
        machine, client = self._on_node(machine_id)
        with speaking_to(machine.node or ""):
            return client.machines.figures(machine.id)

    # Helpers in the order in which they are called

    def _keep_stopped(self, machine_id: str) -> None:
        """A machine that a drain has stopped, and that its user wants stopped too, is started by no undrain."""
        with self._database.read() as connection:
            machine = self._get(connection, machine_id)
        if machine.drained is not None:
            with self._database.write() as transaction:
                table.keep_stopped(transaction, machine)

    def _count_refusal(self, error: NothingFits) -> None:
        """Once for each rule that spoke against a node; a cloud without nodes has a word of its own."""
        verdicts: list[dict[str, str]] = error.extra.get("verdicts") or []
        for rule in {str(verdict.get("filter")) for verdict in verdicts} or {"no-nodes"}:
            self._tally.count(REFUSALS, rule)

    def _with_seen(self, machine: Machine) -> Machine:
        with self._database.read() as connection:
            return _fresh(connection, self._work, [machine])[0]

    def _get(self, connection: Connection, machine_id: str) -> Machine:
        machine = table.find(connection, machine_id)
        if machine is not None:
            return machine
        removal = table.removal_of(connection, machine_id)
        if removal is not None:
            raise NotFound(
                f"machine {machine_id} was removed at {removal.at:%Y-%m-%d %H:%M:%S} UTC",
                removed_at=to_wire(removal.at),
            )
        raise NotFound(f"no machine has the id {machine_id[:80]!r}")

    def _save_wish(self, transaction: Transaction, machine: Machine, wish: Wish, kind: OperationKind) -> Machine:
        """Write the wish and the operation that follows it, in place of the one that the machine was in."""
        now = self._clock.now()
        if machine.operation is not None:
            done = OperationState.DONE
            operations.finish(transaction, machine.operation, done, now, message=f"given up: it was wished {wish}")
        operation = Operation(
            id=secrets.token_hex(16),
            kind=kind,
            target=machine.id,
            state=OperationState.RUNNING,
            step=1,
            steps=1,
            progress=0.0,
            message=f"machine {machine.id} is to be {wish}",
            error=None,
            created_at=now,
            updated_at=now,
            finished_at=None,
        )
        operations.insert(transaction, operation)
        return table.save_wish(transaction, machine, wish, now, operation.id)

    def _on_node(self, machine_id: str) -> tuple[Machine, HyperClient]:
        """The machine, and the client of its node; raises when the node cannot say anything about it."""
        with self._database.read() as connection:
            machine = self._get(connection, machine_id)
            node = nodes.find(connection, machine.node) if machine.node is not None else None
        if node is None or machine.told_generation == 0:
            raise Conflict(f"machine {machine_id} was not made yet: it is {machine.state}")
        if node.state not in TRUSTED:
            raise NodeUnreachable(f"node {node.name} is {node.state}: {node.reason}", node=node.name)
        return machine, self._clients.of(node)


def _is_still(machine: Machine, asked: Machine) -> bool:
    """Whether it is the machine that was asked for, on the same node, and nothing else was wished of it since."""
    before, now = ((one.created_at, one.epoch, one.generation) for one in (asked, machine))
    return before == now


def _check_wish(machine: Machine, wish: Wish, node: Node | None) -> None:
    if machine.wish is Wish.REMOVED:
        raise Conflict(f"machine {machine.id} is being removed")
    if wish is not Wish.STOPPED and machine.reason.startswith(DISAPPEARED) and NEVER_AGAIN in machine.reason:
        raise Conflict(
            f"machine {machine.id} cannot be {wish}: {machine.reason}. Remove it and add it anew (iaas vm rm {machine.id}), "
            f"or bring it back on its host"
        )
    if machine.settled and machine.wish is wish and machine.as_wished:
        raise AlreadyInState(f"machine {machine.id} is {machine.state} already", state=machine.state)
    if wish is Wish.PAUSED:
        driver = next((each for each in node.drivers if each.name == machine.type), None) if node is not None else None
        if driver is not None and PAUSE not in driver.abilities:
            raise AbilityMissing(f"machines of type {machine.type} cannot be paused")
        if machine.state is not State.RUNNING:
            raise Conflict(f"machine {machine.id} is {machine.state}: only a running machine can be paused")
        if not machine.settled:
            raise Conflict(
                f"machine {machine.id} is on its way to be {machine.wish}: it can be paused once it is there"
            )


def _fresh(connection: Connection, work: Work, found: list[Machine]) -> list[Machine]:
    """The machines with the moment at which their nodes last spoke of them, which is not written down each time.

    A controller that does not watch the nodes itself goes by when the one that does last heard a node.
    """
    names = {machine.node for machine in found if machine.node is not None}
    reports = {name: report for name in names if (report := work.report_of(name)) is not None and report.seen_at}
    heard = {node.name: node.seen_at for node in nodes.list(connection)} if names - reports.keys() else {}

    def told(machine: Machine) -> datetime | None:
        report = reports.get(machine.node or "")
        if report is None:
            return heard.get(machine.node or "") if machine.state in TOLD else None
        sight = report.machines.get(machine.id)
        return report.seen_at if sight is not None and sight.epoch == machine.epoch else None

    def fresh(machine: Machine) -> Machine:
        moment = told(machine)
        newer = moment is not None and (machine.seen_at is None or moment > machine.seen_at)
        return replace(machine, seen_at=moment) if newer else machine

    return [fresh(machine) for machine in found]
