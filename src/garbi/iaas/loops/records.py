"""What the loops write down of a machine, each change together with what it means for the operation that it is in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from garbi.base.clock import Clock
from garbi.base.errors import DriverFailed, GarbiError
from garbi.base.problem import to_problem
from garbi.hyper_api.vocabulary import State, Wish
from garbi.iaas.converge import Mirror, Vacate
from garbi.iaas.model.machine import Machine, Moving
from garbi.iaas.model.node import Node
from garbi.iaas.model.operation import OperationState
from garbi.iaas.store import events, machines, nodes, operations, restoring
from garbi.iaas.store.database import Database, Transaction


class Records:
    """The rows of machines and of their operations, as the loops read and write them."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self.database = database
        self._clock = clock
        self._on_vacated: Callable[[Machine], None] = lambda _machine: None

    def on_vacated(self, listener: Callable[[Machine], None]) -> None:
        """Call `listener` with each machine of which nothing is left on its node, once that is written down."""
        self._on_vacated = listener

    def find(self, machine_id: str) -> Machine | None:
        """The machine with that id."""
        with self.database.read() as connection:
            return machines.find(connection, machine_id)

    def find_with_node(self, machine_id: str) -> tuple[Machine | None, Node | None]:
        """The machine with that id, and the node that it is on."""
        with self.database.read() as connection:
            machine = machines.find(connection, machine_id)
            if machine is None or machine.node is None:
                return machine, None
            return machine, nodes.find(connection, machine.node)

    def of_node(self, name: str) -> list[Machine]:
        """The machines of a node, the oldest first."""
        with self.database.read() as connection:
            return [*machines.of_node(connection, name)]

    def save(self, before: Machine, after: Machine) -> bool:
        """Write what has changed of a machine; False when the row is newer, so that it has to be read again."""
        if after == before:
            return True
        now = self._clock.now()
        with self.database.write() as transaction:
            return machines.save_state(transaction, before, replace(after, updated_at=now, seen_at=now))

    def mirror(self, before: Machine, machine: Machine, decision: Mirror, actor: str | None = None) -> bool:
        """Write what a node says of a machine; when that settles the user's wish, its operation is done, or failed.

        `actor` is who says it, when it is not the node.
        """
        settled = machine.generation if decision.settled else machine.settled_generation
        after = replace(
            machine,
            state=decision.state,
            reason=decision.reason,
            address=decision.address,
            settled_generation=settled,
        )
        if after == before:
            return True
        now = self._clock.now()
        with self.database.write() as transaction:
            seen_at = now if actor is None else after.seen_at
            if not machines.save_state(
                transaction, before, replace(after, updated_at=now, seen_at=seen_at), actor=actor
            ):
                return False
            if after.settled and not before.settled:
                self._finish(transaction, after, _failure(after))
        return True

    def vacate(self, before: Machine, machine: Machine, decision: Vacate) -> bool:
        """Write that nothing of a machine is left on its node: it is assigned there anew, or waits for another node."""
        now = self._clock.now()
        with self.database.write() as transaction:
            present = machines.find(transaction.connection, machine.id)
            if present != before or machine.node is None:
                return False
            if decision.here and nodes.is_taking(transaction, machine.node):
                machines.move(transaction, present, machine.node, now)
                return True
            why = machine.moving_why or f"it disappeared from node {machine.node}, which takes no machines"
            after = replace(
                present, moving=Moving.GONE, moving_why=why, state=State.PENDING, reason=f"gone from {machine.node}: {why}",
                refused=False, address=None, told_generation=0, settled_generation=0, updated_at=now,
            )  # fmt: skip
            saved = machines.save_state(transaction, before, after, actor=events.CONTROLLER)
        if saved:
            self._on_vacated(after)
        return saved

    def failed(self, node: str, machine_id: str, reason: str) -> None:
        """Write that a machine failed, as the event of its node says, so that it is in the history although the node may have
        started it again by now. What the machine's worker finds afterwards counts.
        """
        now = self._clock.now()
        with self.database.write() as transaction:
            machine = machines.find(transaction.connection, machine_id)
            if machine is None or machine.node != node or machine.refused:  # it may be of somebody else's machine
                return
            expected = machine.wish is Wish.RUNNING and machine.settled
            if not expected or machine.state not in (State.RUNNING, State.FAILED) or machine.reason == reason:
                return
            after = replace(machine, state=State.FAILED, reason=reason, updated_at=now, seen_at=now)
            machines.save_state(transaction, machine, after)

    def outgrow(self, machine: Machine, ordered: object) -> None:
        """Let the wish of a machine count as later than the one numbered `ordered`, which its node has heard: this database has
        lost its last commits, those of the wishes in between. Nothing is changed when there is a newer wish.
        """
        with self.database.write() as transaction:
            restoring.outgrow(transaction, machine, ordered if isinstance(ordered, int) else None)

    def give_up(self, before: Machine, tried: Machine, error: GarbiError, *, refused: bool) -> bool:
        """Write that the wish that was `tried` cannot be fulfilled, and why; `refused`: nothing of the machine is there."""
        state = State.FAILED if refused else before.state
        settled = max(before.settled_generation, tried.generation)
        told = max(before.told_generation, tried.told_generation)
        after = replace(
            before, state=state, reason=error.detail, refused=refused, told_generation=told, settled_generation=settled
        )
        now = self._clock.now()
        with self.database.write() as transaction:
            if not machines.save_state(transaction, before, replace(after, updated_at=now, seen_at=now)):
                return False
            if after.settled:
                self._finish(transaction, after, to_problem(error))
        return True

    def delete(self, machine: Machine, actor: str, reason: str = "") -> None:
        """Forget a machine of which nothing is left; its operation is done."""
        now = self._clock.now()
        with self.database.write() as transaction:
            present = machines.find(transaction.connection, machine.id)
            if present is None or present.epoch != machine.epoch or present.created_at != machine.created_at:
                return
            self._finish(transaction, present, None if present.wish is Wish.REMOVED else _gone(reason))
            machines.delete(transaction, present, actor, reason, now)

    def progress(self, machine: Machine, fraction: float, words: str) -> None:
        """Write how far the operation of a machine has come, from 0 to 1."""
        if machine.operation is None:
            return
        with self.database.write() as transaction:
            operations.progress(transaction, machine.operation, self._clock.now(), progress=fraction, message=words)

    def _finish(self, transaction: Transaction, machine: Machine, failure: Mapping[str, Any] | None) -> None:
        if machine.operation is None:
            return
        state = OperationState.DONE if failure is None else OperationState.FAILED
        operations.finish(transaction, machine.operation, state, self._clock.now(), error=failure)


def _failure(machine: Machine) -> Mapping[str, Any] | None:
    """Why the wish of a settled machine was not fulfilled."""
    if machine.state is State.FAILED or machine.wish is Wish.REMOVED:
        return to_problem(
            DriverFailed(f"node {machine.node}: {machine.reason or 'it gave no reason'}", node=machine.node)
        )
    return None


def _gone(reason: str) -> Mapping[str, Any]:
    return to_problem(DriverFailed(reason or "the machine was removed"))
