"""Machines as rows. Every function works inside the caller's transaction.

A write that rests on what was read says so: an assignment (`epoch`) that has passed, or a state that another has written
meanwhile, has no effect (invariant I11).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, func, select, update
from sqlalchemy import delete as delete_from
from sqlalchemy import insert as insert_into

from garbi.base.clock import to_wire
from garbi.base.errors import InvalidField, StaleWrite
from garbi.base.failpoints import reach
from garbi.base.filters import check_filters
from garbi.hyper_api.vocabulary import Protocol, State, Wish
from garbi.iaas.model.event import Event, Subject
from garbi.iaas.model.machine import Machine, Moving
from garbi.iaas.model.query import MACHINE_FILTERS
from garbi.iaas.store import events, idempotency, nodes
from garbi.iaas.store.database import Transaction
from garbi.iaas.store.filters import matching
from garbi.iaas.store.machine_rows import from_rows, port_rows, state_row, to_row
from garbi.iaas.store.schema import machines, ports

GONE_QUIET = (
    State.CREATING,
    State.STOPPED,
    State.STARTING,
    State.RUNNING,
    State.PAUSED,
    State.STOPPING,
    State.REMOVING,
)
"""States that say what a node does: true only as long as it is heard of."""

WITH_PORTS = (
    select(machines, ports.c.node_port, ports.c.machine_port, ports.c.protocol)
    .select_from(machines.outerjoin(ports, ports.c.machine_id == machines.c.id))
    .order_by(machines.c.seq, ports.c.node_port)
)
"""Every machine, once for each of its ports."""


def insert(transaction: Transaction, machine: Machine) -> None:
    """Write a new machine with its ports; its reservation was made before (`nodes.reserve`).

    Raises the database's own IntegrityError when the id or a port is taken.
    """
    connection = transaction.connection
    connection.execute(insert_into(machines).values(**to_row(machine)))
    if machine.ports:
        connection.execute(insert_into(ports), port_rows(machine))
    reach("store.machine.inserted")
    _tell(transaction, machine, events.Kind.CREATED, machine.created_at, events.USER)


def find(connection: Connection, machine_id: str) -> Machine | None:
    """The machine with that id."""
    found = _read(connection, machines.c.id == machine_id)
    return found[0] if found else None


def refused(connection: Connection) -> list[Machine]:
    """The machines that their nodes refused for good, the oldest first."""
    return _read(connection, machines.c.refused, machines.c.state == State.FAILED)


def vacated(connection: Connection) -> list[Machine]:
    """The machines of which nothing is left anywhere, and that wait for a node, the oldest first."""
    return _read(connection, machines.c.moving == Moving.GONE, machines.c.wish != Wish.REMOVED)


def drained_on(connection: Connection) -> dict[str, list[str]]:
    """The ids of the machines that a drain has stopped on each node that has any, the oldest first."""
    stopped = select(machines.c.node, machines.c.id).where(machines.c.drained.is_not(None)).order_by(machines.c.seq)
    found: dict[str, list[str]] = {}
    for row in connection.execute(stopped):
        found.setdefault(row.node, []).append(row.id)
    return found


def wish_again(transaction: Transaction, machine: Machine, now: datetime) -> Machine:
    """Wish a machine on that a drain has stopped; one that was paused ended with that, and is to run."""
    return save_wish(transaction, machine, Wish.RUNNING, now, machine.operation, actor=events.CONTROLLER)


def wish_drained_again(transaction: Transaction, name: str, now: datetime) -> list[Machine]:
    """Wish the machines of a node on that a drain has stopped there; returns them as they are then."""
    there = _read(transaction.connection, machines.c.node == name, machines.c.drained.is_not(None))
    return [wish_again(transaction, machine, now) for machine in there if machine.wish is not Wish.REMOVED]


def call_off_moves(transaction: Transaction, name: str) -> list[Machine]:
    """Let those machines stay on a node that were to leave it and of which nothing was removed; returns them as they are then."""
    wanted = (machines.c.node == name) & (machines.c.moving == Moving.WANTED)
    stay = update(machines).where(wanted).values(moving=Moving.NO, moving_why="").returning(machines.c.id)
    ids = [*transaction.connection.execute(stay).scalars()]
    return _read(transaction.connection, machines.c.id.in_(ids)) if ids else []


def keep_stopped(transaction: Transaction, machine: Machine) -> bool:
    """Let a machine that a drain has stopped stay so, since its user wants that; False when it is none."""
    stopped = machines.c.drained.is_not(None)
    return _update(transaction, machine, stopped, drained=None)


def search(
    connection: Connection,
    filters: Mapping[str, str] | None = None,
    limit: int | None = None,
    marker: str | None = None,
) -> list[Machine]:
    """The machines whose fields equal `filters`, the oldest first: at most `limit`, after the one whose id is `marker`.

    Raises UnknownFilter, or InvalidField when the marker is not a machine.
    """
    asked = dict(filters or {})
    check_filters(asked, MACHINE_FILTERS)
    settled = asked.pop("settled", None)
    conditions = matching(machines, asked)
    if settled is not None:
        conditions.append(_is_settled(settled))
    if marker is not None:
        seq = connection.execute(select(machines.c.seq).where(machines.c.id == marker)).scalar()
        if seq is None:
            raise InvalidField("marker", f"marker {marker[:80]!r} is not the id of a machine")
        conditions.append(machines.c.seq > seq)
    return _read(connection, *conditions, limit=limit)


def _is_settled(text: str) -> ColumnElement[bool]:
    if text not in ("true", "false"):
        raise InvalidField("settled", f"filter settled takes true or false, not {text[:80]!r}", ["true", "false"])
    done, last = machines.c.settled_generation, machines.c.generation
    return done == last if text == "true" else done != last


def of_node(connection: Connection, name: str) -> list[Machine]:
    """The machines that are assigned to a node, the oldest first."""
    return _read(connection, machines.c.node == name)


def count_on(connection: Connection) -> dict[str, int]:
    """How many machines are assigned to each node that has any."""
    counted = (
        select(machines.c.node, func.count().label("number"))
        .where(machines.c.node.is_not(None))
        .group_by(machines.c.node)
    )
    return {row.node: row.number for row in connection.execute(counted)}


def save_wish(
    transaction: Transaction,
    machine: Machine,
    wish: Wish,
    now: datetime,
    operation: str | None,
    *,
    actor: str = events.USER,
    drained: Wish | None = None,
) -> Machine:
    """Write the user's wish: a new generation, which the node has yet to settle; `operation` is the one that follows it.

    `drained` is what it was wished before, when it is a drain that stops it.

    Raises StaleWrite when the machine is gone, or was wished something else since it was read.
    """
    changed = replace(
        machine, wish=wish, generation=machine.generation + 1, operation=operation, updated_at=now, drained=drained
    )
    values = {"wish": wish, "generation": changed.generation, "operation": operation, "updated_at": to_wire(now)}
    values["drained"] = drained
    if not _update(transaction, machine, machines.c.generation == machine.generation, **values):
        raise StaleWrite(f"machine {machine.id} has changed meanwhile", machine=machine.id)
    _tell(transaction, changed, events.Kind.WISH, now, actor, words=str(wish))
    return changed


def save_state(transaction: Transaction, before: Machine, after: Machine, *, actor: str | None = None) -> bool:
    """Write what was found out of a machine: state, reason, address, what was told and settled, when it was seen.

    False, and nothing is changed, when it has another assignment now, or somebody wrote its state since `before` was read. A
    wish that came meanwhile stays. `actor` is the node by default.
    """
    same = [
        machines.c[name] == getattr(before, name)
        for name in ("epoch", "state", "told_generation", "settled_generation", "refused", "moving")
    ]
    if not _update(transaction, before, *same, **state_row(after)):
        return False
    if (before.state, before.reason, before.settled) != (after.state, after.reason, after.settled):
        by = actor or (events.node_actor(after.node) if after.node else events.CONTROLLER)
        _tell(transaction, after, events.Kind.STATE, after.updated_at, by)
    return True


def note_seen(transaction: Transaction, name: str, machine_ids: Sequence[str], now: datetime) -> int:
    """Write that a node spoke of these machines of its; returns how many those are."""
    there = (machines.c.node == name) & machines.c.id.in_(machine_ids)
    return transaction.connection.execute(update(machines).where(there).values(seen_at=to_wire(now))).rowcount


def move(
    transaction: Transaction, machine: Machine, to_node: str, now: datetime, *, actor: str = events.CONTROLLER
) -> Machine:
    """Assign a machine to another node, where its amounts are reserved already; its old reservation ends. Or to its own, anew.

    It is pending again, and nothing was told to anybody (epoch, generations). Raises StaleWrite when it was assigned anew or
    wished away since it was read.
    """
    stays = machine.node == to_node
    reason = f"made again on {to_node}" if stays else f"moved from {machine.node}"
    changed = replace(
        machine, node=to_node, epoch=machine.epoch + 1, state=State.PENDING, reason=reason, refused=False, address=None,
        told_generation=0, settled_generation=0, moving=Moving.NO, moving_why="", updated_at=now,
    )  # fmt: skip
    values = state_row(changed) | {"node": to_node, "epoch": changed.epoch}
    same = (machines.c.epoch == machine.epoch, machines.c.wish != Wish.REMOVED)
    if not _update(transaction, machine, *same, **values):
        raise StaleWrite(f"machine {machine.id} has changed meanwhile", machine=machine.id)
    if machine.node is not None and not stays:
        nodes.release(transaction, machine.node, machine.amounts)
    reach("store.machine.moved")
    _tell(transaction, changed, events.Kind.MOVED, now, actor, words=f"from {machine.node} to {to_node}")
    return changed


def delete(transaction: Transaction, machine: Machine, actor: str, reason: str, now: datetime) -> bool:
    """Delete a machine with its ports, and give its reservation back, once; its removal stays in the history.

    The key that made it makes no other. False, and nothing is changed, when it is gone or has another assignment now.
    """
    same = (machines.c.id == machine.id) & (machines.c.created_at == to_wire(machine.created_at))
    gone = transaction.connection.execute(delete_from(machines).where(same, machines.c.epoch == machine.epoch))
    if gone.rowcount != 1:
        return False
    reach("store.machine.deleted")
    if machine.node is not None:
        nodes.release(transaction, machine.node, machine.amounts)
    _tell(transaction, machine, events.Kind.REMOVED, now, actor, words=reason)
    return True


def withdraw(transaction: Transaction, machine: Machine, now: datetime) -> None:
    """Delete a machine that its node refused while its user waited: the key of that request may make one again."""
    if delete(transaction, machine, events.CONTROLLER, machine.reason, now):
        idempotency.forget(transaction, machine)


def mark_node_unknown(transaction: Transaction, name: str, reason: str, now: datetime) -> list[str]:
    """Say of the machines of a silent node that nothing is known of them; returns their ids. What failed, or was never told,
    stays as it is.
    """
    return _mark(transaction, name, State.UNKNOWN, reason, now, machines.c.state.in_(GONE_QUIET))


def mark(transaction: Transaction, machine: Machine, state: State, reason: str, now: datetime, *, actor: str) -> None:
    """Say what the controller knows of a machine, which is as it is in this transaction, without its node."""
    if (machine.state, machine.reason) == (state, reason):
        return
    marked = replace(machine, state=state, reason=reason, updated_at=now)
    if _update(transaction, machine, state=state, reason=reason, updated_at=to_wire(now)):
        _tell(transaction, marked, events.Kind.STATE, now, actor)


def removal_of(connection: Connection, machine_id: str) -> Event | None:
    """The removal of the machine that last had this id, if it was removed."""
    return events.removal_of(connection, Subject.MACHINE, machine_id)


def ports_of_node(connection: Connection, name: str) -> dict[tuple[Protocol, int], str]:
    """The published ports of a node, and the id of the machine that each belongs to."""
    statement = select(ports.c.protocol, ports.c.node_port, ports.c.machine_id).where(ports.c.node == name)
    return {(Protocol(protocol), port): machine for protocol, port, machine in connection.execute(statement)}


# Helpers in the order in which they are called


def _read(connection: Connection, *conditions: ColumnElement[bool], limit: int | None = None) -> list[Machine]:
    """Machines with their ports, in one query however many they are."""
    if limit is None:
        statement = WITH_PORTS.where(*conditions)
    else:
        chosen = select(machines.c.seq).where(*conditions).order_by(machines.c.seq).limit(limit)
        statement = WITH_PORTS.where(machines.c.seq.in_(chosen))
    rows: Sequence[Row[Any]] = connection.execute(statement).all()
    return from_rows(rows)


def _update(transaction: Transaction, machine: Machine, *conditions: ColumnElement[bool], **values: Any) -> bool:
    """Change a machine, if it is still the one that was read: another may have its id now."""
    same = (machines.c.id == machine.id) & (machines.c.created_at == to_wire(machine.created_at))
    return transaction.connection.execute(update(machines).where(same, *conditions).values(**values)).rowcount == 1


def _mark(
    transaction: Transaction, name: str, state: State, reason: str, now: datetime, condition: ColumnElement[bool]
) -> list[str]:
    there = update(machines).where(machines.c.node == name, condition)
    changed = there.values(state=state, reason=reason, updated_at=to_wire(now)).returning(machines.c.id)
    ids = sorted(transaction.connection.execute(changed).scalars())
    for machine_id in ids:
        events.append(transaction, Subject.MACHINE, machine_id, events.Kind.STATE, now, state=state, reason=reason)
    return ids


def _tell(
    transaction: Transaction, machine: Machine, kind: str, at: datetime, actor: str, *, words: str | None = None
) -> None:
    reason = machine.reason if words is None else words
    events.append(transaction, Subject.MACHINE, machine.id, kind, at, state=machine.state, actor=actor, reason=reason)
