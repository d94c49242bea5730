"""Nodes as rows, and the account of what of each is promised. Every function works inside the caller's transaction."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, case, false, func, or_, select, update
from sqlalchemy import delete as delete_from
from sqlalchemy import insert as insert_into
from sqlalchemy.exc import IntegrityError

from garbi.base.clock import to_wire
from garbi.base.errors import AlreadyExists, Conflict, StaleWrite
from garbi.iaas.model.event import Subject
from garbi.iaas.model.node import (
    TRANSITIONS,
    Amounts,
    DriverState,
    Failure,
    Load,
    Node,
    NodeState,
    Overcommit,
)
from garbi.iaas.model.power import Power
from garbi.iaas.store import events
from garbi.iaas.store.database import Transaction
from garbi.iaas.store.node_rows import facts_row, from_row, load_row, moment_text, power_value, to_row
from garbi.iaas.store.schema import AMOUNTS, machines, nodes

SHOWN_MACHINES = 5
MOST = 2**40
"""More than any host has; what a node claims beyond it does not count."""

KEPT = (
    "host", "port", "provision", "ssh", "labels", "overcommit", "state", "reason", "draining", "operation",
    "witness", "live_restore",
)  # fmt: skip
"""What the controller decides of a node, and `save` writes; the rest is the node's own, or the account."""


def insert(transaction: Transaction, node: Node, now: datetime) -> None:
    """Write a new node; raises AlreadyExists when its name or its address is a node's already."""
    connection = transaction.connection
    if find(connection, node.name) is not None:
        raise AlreadyExists(f"a node called {node.name} is here already", field="name")
    _check_address(connection, node)
    try:
        connection.execute(insert_into(nodes).values(**to_row(node)))
    except IntegrityError as error:
        raise AlreadyExists(f"a node called {node.name} or at {node.address} was added meanwhile") from error
    _tell(transaction, node, events.Kind.CREATED, now, events.USER)


def find(connection: Connection, name: str) -> Node | None:
    """The node of that name."""
    row = connection.execute(select(nodes).where(nodes.c.name == name)).first()
    return from_row(row) if row is not None else None


def list(connection: Connection) -> Sequence[Node]:
    """Every node, by name."""
    return [from_row(row) for row in connection.execute(select(nodes).order_by(nodes.c.name))]


def save(transaction: Transaction, before: Node, after: Node, *, actor: str = events.CONTROLLER) -> Node:
    """Write what was decided of a node: address, SSH, labels, over-commit, state, draining, operation (see `KEPT`).

    Returns the node as it is now, with its present facts and reservations. Raises StaleWrite when any of that is no longer as
    in `before`, AlreadyExists when the new address is another node's.
    """
    present = _locked(transaction.connection, before.name)
    if present is None or any(getattr(present, name) != getattr(before, name) for name in KEPT):
        raise StaleWrite(f"node {before.name} has changed meanwhile", node=before.name)
    kept = {name: getattr(after, name) for name in KEPT} | {"draining": after.draining or _drains(after.state)}
    kept["failure"] = present.failure if after.state is NodeState.FAILED else Failure.NONE
    changed = replace(present, **kept, updated_at=after.updated_at)
    changed = replace(changed, limit=limit_of(changed.has, changed.overcommit))
    if changed.address != present.address:
        _check_address(transaction.connection, changed)
    _write(transaction, changed)
    if (before.state, before.reason, before.draining) != (changed.state, changed.reason, changed.draining):
        _tell(transaction, changed, events.Kind.STATE, after.updated_at, actor)
    return changed


def note_facts(
    transaction: Transaction,
    name: str,
    has: Amounts,
    load: Load,
    architecture: str,
    drivers: Iterable[DriverState],
    versions: Mapping[str, str],
    cluster_id: str,
    boot_id: str,
    now: datetime,
    host_mem: int = 0,
) -> Node | None:
    """Write what a node says of itself, and that it answered `now`; None when there is no such node.

    When it has less than before, what is reserved stays reserved, however much that is: nothing new fits until enough is
    released.
    """
    present = _locked(transaction.connection, name)
    if present is None:
        return None
    held = Amounts(*(min(max(getattr(has, key), 0), MOST) for key in AMOUNTS))
    changed = replace(
        present,
        has=held,
        limit=limit_of(held, present.overcommit),
        load=load,
        architecture=architecture,
        drivers=tuple(drivers),
        versions=dict(versions),
        cluster_id=cluster_id,
        boot_id=boot_id,
        host_mem=min(max(host_mem, 0), MOST),
        seen_at=now,
    )
    _update(transaction, name, **facts_row(changed))
    return changed


def note_seen(transaction: Transaction, name: str, load: Load, now: datetime) -> bool:
    """Write that a node answered `now`, and its load; False when there is no such node."""
    return _update(transaction, name, **load_row(load), seen_at=to_wire(now))


def set_state(
    transaction: Transaction,
    name: str,
    state: NodeState,
    reason: str,
    now: datetime,
    *,
    actor: str = events.CONTROLLER,
    failure: Failure = Failure.NONE,
) -> bool:
    """Move a node to a state; False, and nothing is changed, when there is no such node or its state does not lead there.

    A node that was draining when it fell silent drains on when it becomes ready; only one that is `draining` becomes `ready`
    for good. `failure` is for one that becomes `failed`.
    """
    present = _locked(transaction.connection, name)
    if present is None or not TRANSITIONS.allows(present.state, state):
        return False
    if state is NodeState.READY and present.draining and present.state is not NodeState.DRAINING:
        state = NodeState.DRAINING
    draining = _drains(state) or (present.draining and state is not NodeState.READY)
    if (present.state, present.reason, present.draining, present.failure) == (state, reason, draining, failure):
        return True
    changed = replace(present, state=state, reason=reason, draining=draining, failure=failure, updated_at=now)
    values = {"state": state, "reason": reason, "draining": draining, "failure": failure}
    _update(transaction, name, **values, updated_at=to_wire(now))
    _tell(transaction, changed, events.Kind.STATE, now, actor)
    return True


def note_reason(transaction: Transaction, name: str, reason: str) -> bool:
    """Write more about why a node is in its state; False when there is no such node."""
    return _update(transaction, name, reason=reason)


def note_condition(
    transaction: Transaction, name: str, unwritable: str, leaving_at: datetime | None, now: datetime
) -> Node | None:
    """Write what a node says of its disk, and since when its host goes down, with an event; None when there is no such node."""
    present = _locked(transaction.connection, name)
    if present is None:
        return None
    changed = replace(present, unwritable=unwritable, leaving_at=leaving_at)
    _update(transaction, name, unwritable=unwritable, leaving_at=moment_text(leaving_at))
    told = {"state": changed.state, "actor": events.node_actor(name), "reason": changed.words}
    events.append(transaction, Subject.NODE, name, events.Kind.CHANGED, now, **told)
    return changed


def note_touched(transaction: Transaction, name: str) -> bool:
    """Write that something of ours may be on the host of a node from now on; False when there is no such node."""
    return _update(transaction, name, touched=True)


def note_power(transaction: Transaction, name: str, power: Power | None) -> bool:
    """Write how the host of a node is switched off; False when there is no such node."""
    return _update(transaction, name, power=power_value(power))


def set_operation(transaction: Transaction, name: str, operation: str | None, now: datetime) -> bool:
    """Write which operation a node is in; False when there is no such node."""
    return _update(transaction, name, operation=operation, updated_at=to_wire(now))


def raise_lease(transaction: Transaction, name: str, ended: int) -> bool:
    """Give a node another lease than the one numbered `ended`; False when it has another already, or there is no such node."""
    return _update(transaction, name, nodes.c.lease == ended, lease=ended + 1)


def is_taking(transaction: Transaction, name: str) -> bool:
    """Whether a node takes machines; it goes on so until this transaction ends."""
    present = _locked(transaction.connection, name)
    return present is not None and present.state is NodeState.READY and not present.draining


def is_draining(transaction: Transaction, name: str) -> bool:
    """Whether a node is being drained; it goes on so until this transaction ends."""
    present = _locked(transaction.connection, name)
    return present is not None and present.draining


def reserve(transaction: Transaction, name: str, amounts: Amounts) -> bool:
    """Take amounts of a node for one more assignment; False when it is not ready, or when it or a host that it shares with
    others has not that much left.

    One conditional update: two who want the last of it cannot both have it, whatever they read before.
    """
    fits = [nodes.c["reserved_" + key] + getattr(amounts, key) <= nodes.c["limit_" + key] for key in AMOUNTS]
    values: dict[str, Any] = {"reserved_" + key: nodes.c["reserved_" + key] + getattr(amounts, key) for key in AMOUNTS}
    ready = (nodes.c.state == NodeState.READY) & (nodes.c.draining == false())
    return _update(transaction, name, ready, *fits, *_host_has(amounts), epoch=nodes.c.epoch + 1, **values)


def release(transaction: Transaction, name: str, amounts: Amounts) -> None:
    """Give amounts back to a node. A host that has shrunk does not get back what it no longer has."""
    values: dict[str, Any] = {}
    for key in AMOUNTS:
        left = nodes.c["reserved_" + key] - getattr(amounts, key)
        limit = nodes.c["limit_" + key]
        values |= {"reserved_" + key: left, "bound_" + key: case((left > limit, left), else_=limit)}
    _update(transaction, name, **values)


def delete(transaction: Transaction, name: str, now: datetime, *, actor: str = events.USER) -> bool:
    """Forget a node and its secret; False when there is none. Raises Conflict, which names them, while machines are there."""
    present = _locked(transaction.connection, name)
    if present is None:
        return False
    check_empty(transaction.connection, name)
    transaction.connection.execute(delete_from(nodes).where(nodes.c.name == name))
    _tell(transaction, present, events.Kind.REMOVED, now, actor)
    return True


def check_empty(connection: Connection, name: str) -> None:
    """Raise Conflict, which names some of them, when machines are on the node."""
    there = select(machines.c.id).where(machines.c.node == name).order_by(machines.c.seq)
    found = connection.execute(there).scalars().all()
    if found:
        shown = ", ".join(found[:SHOWN_MACHINES]) + (", …" if len(found) > SHOWN_MACHINES else "")
        raise Conflict(
            f"machines are on node {name}, {len(found)} of them: {shown}",
            machines=[*found[:SHOWN_MACHINES]],
            count=len(found),
        )


def limit_of(has: Amounts, overcommit: Overcommit) -> Amounts:
    """What may be reserved of a node: what it has, as often as it may be promised."""
    return Amounts(*(math.floor(getattr(has, key) * getattr(overcommit, key)) for key in AMOUNTS))


# Helpers in the order in which they are called


def _check_address(connection: Connection, node: Node) -> None:
    there = (nodes.c.host == node.host) & (nodes.c.port == node.port) & (nodes.c.name != node.name)
    holder = connection.execute(select(nodes.c.name).where(there)).scalar()
    if holder is not None:
        raise AlreadyExists(f"node {holder} is at {node.address} already", field="host", node=holder)


def _locked(connection: Connection, name: str) -> Node | None:
    """The node, which nobody else changes before this transaction ends."""
    row = connection.execute(select(nodes).where(nodes.c.name == name).with_for_update()).first()
    return from_row(row) if row is not None else None


def _host_has(amounts: Amounts) -> Sequence[ColumnElement[bool]]:
    """That the nodes of one host promise no more of it together than may be: the rule of `garbi.iaas.model.sharing`."""
    other = nodes.alias()
    there = other.c.boot_id == nodes.c.boot_id
    alone = nodes.c.boot_id == ""

    def of(value: ColumnElement[Any], *where: ColumnElement[bool]) -> ColumnElement[Any]:
        return select(value).where(there, *where).correlate(nodes).scalar_subquery()

    def room(key: str, *where: ColumnElement[bool]) -> ColumnElement[bool]:
        taken = of(func.sum(other.c["reserved_" + key]), *where) + getattr(amounts, key)
        fits: ColumnElement[bool] = taken <= of(func.max(other.c["limit_" + key]), *where)
        return fits

    divided = of(func.sum(other.c.has_mem)) <= nodes.c.host_mem
    one_disk = other.c.has_disk == nodes.c.has_disk
    return [or_(alone, divided, room("mem")), or_(alone, room("cpus")), or_(alone, room("disk", one_disk))]


def _drains(state: NodeState) -> bool:
    return state is NodeState.DRAINING


def _write(transaction: Transaction, node: Node) -> None:
    try:
        _update(transaction, node.name, **to_row(node))
    except IntegrityError as error:
        raise AlreadyExists(f"another node is at {node.address} already", field="host") from error


def _update(transaction: Transaction, name: str, /, *conditions: ColumnElement[bool], **values: Any) -> bool:
    statement = update(nodes).where(nodes.c.name == name, *conditions).values(**values)
    return transaction.connection.execute(statement).rowcount == 1


def _tell(transaction: Transaction, node: Node, kind: str, at: datetime, actor: str) -> None:
    events.append(transaction, Subject.NODE, node.name, kind, at, state=node.state, actor=actor, reason=node.reason)
