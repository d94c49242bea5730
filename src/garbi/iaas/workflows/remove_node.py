"""Takes a node out of the cloud: its machines, where that was forced, then our things on its host, then its row."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import datetime

from garbi.base.errors import Busy, Conflict, GarbiError, ImageInUse, NotFound
from garbi.base.failpoints import reach
from garbi.base.problem import to_problem
from garbi.hyper_api.vocabulary import State, Wish
from garbi.iaas.converge import nothing_sent
from garbi.iaas.model.image import CACHED_PREFIX
from garbi.iaas.model.machine import Machine, Moving
from garbi.iaas.model.node import Failure, Node, NodeState
from garbi.iaas.model.operation import Operation, OperationState
from garbi.iaas.model.tombstone import Tombstone
from garbi.iaas.monitor.failover import is_lost
from garbi.iaas.nodes import speaking_to
from garbi.iaas.store import events, machines, nodes, operations, secrets, tombstones
from garbi.iaas.store.database import Transaction
from garbi.iaas.workflows.hosts import Hosts
from garbi.iaas.workflows.steps import OnProgress, Step

FORGOTTEN = "its host is left as it is"
"""How the reason of a node begins that is removed without its host: it is dead, or was never set up, and the user insisted."""

PROVEN_DEAD = f"{FORGOTTEN}: it was proven dead"
"""The whole of that reason where a proof says of its machines what runs on there."""

PROBE_S = 10.0
PATIENCE_S = 120.0
"""How long the removal of one machine may take."""

LOOK_S = 1.0


class RemoveNode:
    """The operation `node-remove`. `wake` has a machine looked at, `dismiss` ends the crew of a node, `ask` has hosts asked whose
    nodes were removed while they were silent."""

    def __init__(
        self,
        hosts: Hosts,
        wake: Callable[[Machine], None],
        dismiss: Callable[[str], None],
        ask: Callable[[], None] = lambda: None,
    ) -> None:
        self._hosts = hosts
        self._ask = ask
        self._wake = wake
        self._dismiss = dismiss
        self._notes: dict[str, tuple[str, ...]] = {}

    def steps(self, operation: Operation) -> list[Step]:
        """Machines first, then the host, then the record."""
        name = operation.target

        def empty(report: OnProgress, cancelled: threading.Event) -> None:
            self._empty(name, report, cancelled)

        def leave(report: OnProgress, cancelled: threading.Event) -> None:
            self._notes[operation.id] = self._leave(name, report, cancelled)

        return [Step("removing its machines", empty, weight=6), Step("leaving its host", leave, weight=12)]

    def conclude(self, transaction: Transaction, operation: Operation) -> str:
        """Forget the node, unless a machine has come in between; tell what stays on its host."""
        node = nodes.find(transaction.connection, operation.target)
        buried = None if node is None else tombstones.find(transaction.connection, node.cluster_id)
        nodes.delete(transaction, operation.target, self._hosts.clock.now())
        told = () if buried is None or not buried.may_run else (_words(buried),)
        return "; ".join((f"node {operation.target} is removed", *self._notes.pop(operation.id, ()), *told))

    def fail(self, transaction: Transaction, operation: Operation, error: GarbiError) -> None:
        """It stays, failed, to be removed once more."""
        node = nodes.find(transaction.connection, operation.target)
        if node is not None and node.state is NodeState.REMOVING:
            now, why = self._hosts.clock.now(), Failure.REMOVAL
            nodes.set_state(transaction, node.name, NodeState.FAILED, error.detail, now, failure=why)

    def after(self, operation: Operation) -> None:
        """Watch it no more, and send those home who worked for it."""
        self._hosts.unwatch(operation.target)
        self._dismiss(operation.target)
        self._ask()

    # Machines

    def _empty(self, name: str, report: OnProgress, cancelled: threading.Event) -> None:
        node = self._hosts.node(name)
        if _is_forgotten(node) and not self._answers(node):
            self._forget(node)
            return
        there = self._machines(name)
        if there:
            self._hosts.watch(name)  # a node that had failed was watched no more
        for machine in there:
            self._wish_away(machine)
        for number, machine in enumerate(there):
            report(number / len(there), f"removing machine {machine.id} ({number + 1} of {len(there)})")
            self._wait_gone(machine, cancelled)
        left = self._machines(name)
        if left:
            raise Conflict(f"{len(left)} machines are on node {name}: {', '.join(each.id for each in left[:5])}")

    def _answers(self, node: Node) -> bool:
        """Whether the node's own agent can still be told to remove machines."""
        try:
            return self._hosts.clients.prober_of(node, PROBE_S).host().get("cluster_id") == node.cluster_id
        except GarbiError:
            return False

    def _forget(self, node: Node) -> None:
        """Delete the records of machines of which nobody can be asked; who waits for them is told.

        What has to be asked of its agent, once that is back, is written in the same transaction.
        """
        now = self._hosts.clock.now()
        reason = f"forgotten with node {node.name}, which did not answer"
        with self._hosts.database.write() as transaction:
            there = machines.of_node(transaction.connection, node.name)
            if node.cluster_id:
                secret = secrets.get(transaction.connection, node.name) or ""
                tombstones.put(transaction, _tombstone(node, there, secret, now))
            for machine in there:
                if machine.operation is not None:
                    gone = to_problem(Conflict(reason, node=node.name))
                    operations.finish(transaction, machine.operation, OperationState.FAILED, now, error=gone)
                machines.delete(transaction, machine, events.USER, reason, now)
        reach("node.forget.recorded")

    def _machines(self, name: str) -> list[Machine]:
        with self._hosts.database.read() as connection:
            return [*machines.of_node(connection, name)]

    def _wish_away(self, machine: Machine) -> None:
        if machine.wish is not Wish.REMOVED or machine.settled:
            with self._hosts.database.write() as transaction:
                present = machines.find(transaction.connection, machine.id)
                if present is not None:
                    now = self._hosts.clock.now()
                    machines.save_wish(
                        transaction, present, Wish.REMOVED, now, present.operation, actor=events.CONTROLLER
                    )
        self._wake(machine)

    def _wait_gone(self, machine: Machine, cancelled: threading.Event) -> None:
        deadline = self._hosts.clock.monotonic() + PATIENCE_S
        with self._hosts.feed.signal_of(machine.id) as changed:
            while not cancelled.is_set():
                changed.clear()
                with self._hosts.database.read() as connection:
                    present = machines.find(connection, machine.id)
                if present is None or present.created_at != machine.created_at:
                    return
                if self._hosts.clock.monotonic() >= deadline:
                    raise Busy(f"machine {machine.id} is still there after {PATIENCE_S:.0f} s: {present.reason}")
                changed.wait(LOOK_S)
        raise Busy("it was ended early")

    # The host

    def _leave(self, name: str, report: OnProgress, cancelled: threading.Event) -> tuple[str, ...]:
        node = self._hosts.node(name)
        try:
            if node.provision and not node.touched:
                return ()  # nobody ever came so far as to change its host
            if node.provision:
                from garbi.iaas.provisioning import unprovision

                notes = self._hosts.provision(unprovision, name, report, cancelled)
                with self._hosts.database.write() as transaction:
                    tombstones.delete(transaction, node.cluster_id)  # its host is clean: there is nothing to ask
                return notes
            if node.cluster_id:
                self._drop_images(name, report)
        except GarbiError:
            if not _is_forgotten(node):
                raise
        return ()

    def _drop_images(self, name: str, report: OnProgress) -> None:
        """The images that the controller has sent; those that the host's own machines use stay."""
        node = self._hosts.node(name)
        with speaking_to(name):
            client = self._hosts.clients.of(node)
            if client.host().get("cluster_id") != node.cluster_id:
                return  # another agent is there, with images of its own
            sent = [str(each["name"]) for each in client.images.list() if str(each["name"]).startswith(CACHED_PREFIX)]
            for number, image in enumerate(sent):
                report(number / len(sent), f"removing image {image}")
                try:
                    client.images.remove(image)
                except (ImageInUse, NotFound):
                    continue


def reason_to_forget(node: Node) -> str:
    """The reason of a node while it is removed without its host."""
    return PROVEN_DEAD if node.state is NodeState.UNAVAILABLE else FORGOTTEN


# Helpers in the order in which they are called


def _is_forgotten(node: Node) -> bool:
    return node.reason.startswith(FORGOTTEN)


def _tombstone(node: Node, there: Sequence[Machine], secret: str, now: datetime) -> Tombstone:
    """What is left of a node whose host could not be asked."""
    dead = node.reason == PROVEN_DEAD
    return Tombstone(
        cluster_id=node.cluster_id,
        name=node.name,
        host=node.host,
        port=node.port,
        lease=node.lease,
        machines={machine.id: machine.epoch for machine in there},
        may_run=tuple(machine.id for machine in there if _may_run(machine, dead)),
        said="",
        removed_at=now,
        secret=secret,
    )


def _may_run(machine: Machine, dead: bool) -> bool:
    """Whether a machine may run on a host that is not asked. One that failed there may have been started since by its host; of a
    node that is `dead` a proof says what has stopped."""
    if nothing_sent(machine) or machine.moving is Moving.GONE:
        return False
    return not (dead and machine.state is State.FAILED and is_lost(machine))


def _words(buried: Tombstone) -> str:
    return (
        f"{', '.join(buried.may_run)} may run on at {buried.address}: it is asked until {buried.until:%Y-%m-%d}, and told to "
        "remove them"
    )
