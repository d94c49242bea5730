"""Nodes, as a user asks for them: what is refused, what is written down, and which operation does the rest."""

from __future__ import annotations

import ipaddress
import secrets as random
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice

from sqlalchemy import Connection

from garbi.base import places
from garbi.base.clock import Clock
from garbi.base.errors import AlreadyExists, AlreadyInState, Conflict, GarbiError, InvalidField, NotFound
from garbi.base.failpoints import reach
from garbi.base.filters import check_filters, shown
from garbi.base.token import TOKEN_FILE, new_secret, read_secret
from garbi.hyper_api.vocabulary import State
from garbi.iaas.controller.node_changes import check_token, write_change
from garbi.iaas.fences.agent import AgentFence
from garbi.iaas.fences.death import USER, declare_dead
from garbi.iaas.fences.protocol import Proof, Scope
from garbi.iaas.loops.work import Work
from garbi.iaas.model.event import Subject
from garbi.iaas.model.node import Amounts, Load, Node, NodeChange, NodeSpec, NodeState
from garbi.iaas.model.operation import Operation, OperationKind, OperationState
from garbi.iaas.model.query import NODE_FILTERS
from garbi.iaas.model.validation import check_node
from garbi.iaas.monitor.failover import plain
from garbi.iaas.monitor.verdict import TRUSTED
from garbi.iaas.provisioning import Target, check
from garbi.iaas.store import events, machines, operations, secrets
from garbi.iaas.store import nodes as table
from garbi.iaas.store.database import Database, Transaction
from garbi.iaas.workflows.remove_node import reason_to_forget
from garbi.iaas_api.nodes import FenceTrial

OUT_OF_REACH = (NodeState.UNREACHABLE, NodeState.UNAVAILABLE, NodeState.FAILED)
"""The states of nodes that are removed, with force, without their hosts."""


class Nodes:
    """The verbs of nodes. What takes time is an operation: it has begun when a verb returns, and the node names it."""

    def __init__(self, database: Database, work: Work, clock: Clock, agents: AgentFence) -> None:
        self._database = database
        self._work = work
        self._clock = clock
        self._agents = agents

    def add(self, spec: NodeSpec, token: str | None = None) -> Node:
        """Begin to make a host a node, or to try a failed one again at the same address.

        `token` is that of the agent on a host that is not provisioned; for a host of ours it can be left out, if the agent's
        own token file is where it usually is. Raises InvalidField, AlreadyExists, NoSpace.
        """
        _check_spec(spec, token)
        self._database.require_room()
        with self._database.write() as transaction:
            present = table.find(transaction.connection, spec.name)
            if present is None:
                node = _draft(spec, self._clock)
                table.insert(transaction, node, node.created_at)
            else:
                node = self._again(transaction, present, spec)
            secret = _secret(spec, token, secrets.get(transaction.connection, spec.name))
            secrets.put(transaction, spec.name, secret)
            node = self._begin(transaction, node, OperationKind.NODE_ADD)
        reach("node.add.recorded")
        self._work.wake_operations(node.name)
        return node

    def get(self, name: str) -> Node:
        """The node of that name; raises NotFound."""
        with self._database.read() as connection:
            return self._fresh(_find(connection, name))

    def list(
        self, filters: Mapping[str, str] | None = None, limit: int | None = None, marker: str | None = None
    ) -> list[Node]:
        """The nodes whose fields equal the filters, by name; raises UnknownFilter."""
        asked = filters or {}
        check_filters(asked, NODE_FILTERS)
        with self._database.read() as connection:
            known = table.list(connection)
        found = (
            self._fresh(node)
            for node in known
            if (marker is None or node.name > marker)
            and all(shown(getattr(node, name)) == value for name, value in asked.items())
        )
        return [*islice(found, limit)]

    def change(self, name: str, change: NodeChange) -> Node:
        """Have something of a node otherwise from now on; raises NotFound, InvalidField."""
        with self._database.write() as transaction:
            node = _find(transaction.connection, name)
            words = write_change(transaction, node, change)
            if words:
                kind, now = events.Kind.CHANGED, self._clock.now()
                events.append(
                    transaction, Subject.NODE, name, kind, now, state=node.state, actor=events.USER, reason=words
                )
            node = _find(transaction.connection, name)
        self._work.look_soon(name)
        return self._fresh(node)

    def test_fence(self, name: str) -> FenceTrial:
        """Ask the fence agent of a node for all but `off`, and whether its plug is this node; raises NotFound, FenceFailed."""
        with self._database.read() as connection:
            node = _find(connection, name)
        return self._agents.try_out(node, node.state in TRUSTED, threading.Event())

    def remove(self, name: str, force: bool = False) -> Node:
        """Begin to remove a node; with `force` its machines go first. Raises NotFound, Conflict, which names machines.

        A node that is unreachable, unavailable or failed is forgotten, with `force`, whatever its host says: once that answers
        again, what was removed with the node is removed there.
        """
        with self._database.write() as transaction:
            node = _find(transaction.connection, name)
            if node.state is NodeState.REMOVING:
                return node
            if not force:
                table.check_empty(transaction.connection, name)
            if node.state is NodeState.UNREACHABLE and not force:
                raise Conflict(f"node {name} does not answer: {plain(node.reason)}; --force gives it up all the same")
            forget = force and node.state in OUT_OF_REACH
            interrupted = node.operation
            table.set_state(
                transaction,
                name,
                NodeState.REMOVING,
                reason_to_forget(node) if forget else "",
                self._clock.now(),
                actor=events.USER,
            )
            node = self._begin(transaction, _find(transaction.connection, name), OperationKind.NODE_REMOVE)
        reach("node.remove.recorded")
        if interrupted is not None:
            self._work.cancel(interrupted)
        self._work.wake_operations(name)
        return node

    def drain(self, name: str) -> Node:
        """Give a node nothing new, and begin to move or stop what is there; raises NotFound, AlreadyInState, Conflict."""
        with self._database.write() as transaction:
            node = _find(transaction.connection, name)
            running = operations.find(transaction.connection, node.operation or "")
            if node.draining and running is not None and running.state is OperationState.RUNNING:
                return node
            _check_carries(node)
            if node.state is NodeState.READY:
                self._set_state(transaction, name, NodeState.DRAINING)
            elif node.state is not NodeState.DRAINING:
                raise Conflict(f"node {name} is {node.state}: only a ready node can be drained", state=node.state)
            node = self._begin(transaction, _find(transaction.connection, name), OperationKind.NODE_DRAIN)
        reach("node.drain.recorded")
        self._work.wake_operations(name)
        return self._fresh(node)

    def undrain(self, name: str) -> Node:
        """Let a node take machines again, and start what its drain has stopped; raises NotFound, AlreadyInState, Conflict."""
        with self._database.write() as transaction:
            node = _find(transaction.connection, name)
            _check_carries(node)
            if node.state is NodeState.READY:
                raise AlreadyInState(f"node {name} is ready already", state=node.state)
            if node.state is NodeState.DRAINING:
                self._set_state(transaction, name, NodeState.READY)
            elif node.draining and node.state in (NodeState.UNREACHABLE, NodeState.UNAVAILABLE):
                table.save(transaction, node, replace(node, draining=False, updated_at=self._clock.now()))
            else:
                raise Conflict(f"node {name} is {node.state}: it is not being drained", state=node.state)
            interrupted, node = node.operation, _find(transaction.connection, name)
            again = machines.wish_drained_again(transaction, name, self._clock.now())
            again += machines.call_off_moves(transaction, name)
            again += machines.vacated(transaction.connection)  # for some of them there may be room now
        reach("node.undrain.recorded")
        if interrupted is not None:
            self._work.cancel(interrupted)
        for machine in again:
            self._work.wake(machine)
        return self._fresh(node)

    def confirm_dead(self, name: str) -> Node:
        """Take the operator's word that an unreachable node is dead: its machines failed, and are created again elsewhere where
        their policy says so. Raises NotFound, Conflict.
        """
        now = self._clock.now()
        with self._database.write() as transaction:
            connection = transaction.connection
            node = _find(connection, name)
            there = machines.of_node(connection, name)
            in_doubt = node.state is NodeState.UNAVAILABLE and any(each.state is State.UNKNOWN for each in there)
            if node.state is not NodeState.UNREACHABLE and not in_doubt:
                raise Conflict(f"node {name} is {node.state}: only an unreachable node can be said to be dead")
            lost = declare_dead(transaction, node, Proof(USER, Scope.ALL, plain(node.reason)), now)
            node = _find(connection, name)
        reach("node.confirm-dead.recorded")
        for machine in lost:
            self._work.wake(machine)
        return self._fresh(node)

    def machines_on(self, name: str) -> int:
        """How many machines are on a node."""
        return self.machines_on_each().get(name, 0)

    def machines_on_each(self) -> dict[str, int]:
        """How many machines are on each node that has any."""
        with self._database.read() as connection:
            return machines.count_on(connection)

    def drained_on_each(self) -> Mapping[str, Sequence[str]]:
        """The ids of the machines that a drain has stopped on each node that has any: an undrain starts them again."""
        with self._database.read() as connection:
            return machines.drained_on(connection)

    # Helpers in the order in which they are called

    def _again(self, transaction: Transaction, present: Node, spec: NodeSpec) -> Node:
        """A node that failed before, as it is wanted now."""
        if present.state is not NodeState.FAILED:
            raise AlreadyExists(f"a node called {spec.name} is here already: it is {present.state}", field="name")
        if (present.host, present.port) != (spec.host, spec.port):
            detail = f"node {spec.name} is at {present.address}: remove it before it is added at another address"
            raise AlreadyExists(detail, field="address")
        wanted = replace(
            present,
            provision=spec.provision,
            ssh=spec.ssh,
            labels=dict(spec.labels),
            overcommit=spec.overcommit,
            witness=spec.witness,
            live_restore=spec.live_restore,
            state=NodeState.ADDING,
            reason="",
            draining=False,
            updated_at=self._clock.now(),
        )
        return table.save(transaction, present, wanted, actor=events.USER)

    def _begin(self, transaction: Transaction, node: Node, kind: OperationKind) -> Node:
        """Write an operation on a node, in place of the one that it was in."""
        now = self._clock.now()
        operation = Operation(
            id=random.token_hex(16),
            kind=kind,
            target=node.name,
            state=OperationState.RUNNING,
            step=0,
            steps=0,
            progress=0.0,
            message="waiting for its turn",
            error=None,
            created_at=now,
            updated_at=now,
            finished_at=None,
        )
        operations.insert(transaction, operation)
        table.set_operation(transaction, node.name, operation.id, now)
        return replace(node, operation=operation.id, updated_at=now)

    def _set_state(self, transaction: Transaction, name: str, state: NodeState) -> None:
        table.set_state(transaction, name, state, "", self._clock.now(), actor=events.USER)

    def _fresh(self, node: Node) -> Node:
        """The node with the moment at which it was last heard, which is not written down each time."""
        report = self._work.report_of(node.name)
        if report is None or report.seen_at is None or (node.seen_at is not None and node.seen_at > report.seen_at):
            return node
        return replace(node, seen_at=report.seen_at)


def _find(connection: Connection, name: str) -> Node:
    node = table.find(connection, name)
    if node is None:
        raise NotFound(f"no node is called {name[:80]!r}")
    return node


def _check_carries(node: Node) -> None:
    """Raise Conflict for a node that has no machines that could be moved, by its nature."""
    if node.witness:
        raise Conflict(
            f"node {node.name} is a witness: it carries no machines, and cannot be drained; `iaas node rm` removes it"
        )


def _check_spec(spec: NodeSpec, token: str | None) -> None:
    check(Target(spec.name, spec.host, spec.port, spec.ssh, ""))
    check_node(spec)
    if token is not None:
        check_token(token)


def _draft(spec: NodeSpec, clock: Clock) -> Node:
    now = clock.now()
    return Node(
        name=spec.name,
        host=spec.host,
        port=spec.port,
        provision=spec.provision,
        ssh=spec.ssh,
        labels=dict(spec.labels),
        overcommit=spec.overcommit,
        witness=spec.witness,
        live_restore=spec.live_restore,
        state=NodeState.ADDING,
        reason="",
        draining=False,
        has=Amounts(),
        limit=Amounts(),
        reserved=Amounts(),
        load=Load(),
        architecture="",
        drivers=(),
        versions={},
        cluster_id="",
        boot_id="",
        epoch=0,
        operation=None,
        seen_at=None,
        created_at=now,
        updated_at=now,
        touched=not spec.provision,
    )


def _secret(spec: NodeSpec, token: str | None, kept: str | None) -> str:
    """The secret of a node: a new one for a host that is set up, the agent's own for one that is not."""
    if spec.provision:
        return kept or new_secret()
    found = token or (_local_secret() if _is_loopback(spec.host) else None) or kept
    if found is None:
        rule = "the content of the file `token` in the agent's data directory"
        raise InvalidField("token", f"a host that is not provisioned needs the token of its agent: {rule}", rule)
    return found


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _local_secret() -> str | None:
    """The token of the agent that works in the usual place of this host."""
    try:
        return read_secret(places.default_data_dir("hyper") / TOKEN_FILE)
    except (OSError, GarbiError):
        return None
