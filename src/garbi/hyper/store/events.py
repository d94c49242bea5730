"""Events: the history of every machine, kept after the machine is gone (invariant I4)."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select

from garbi.base.clock import from_wire, to_wire
from garbi.hyper.model.event import Event, EventKind
from garbi.hyper.model.machine import Machine, State, Wish
from garbi.hyper.store.database import Transaction
from garbi.hyper.store.schema import events, machines

FOUND = (EventKind.VIOLATION, EventKind.RESOLVED)
"""What an audit found, which is no word about the life of a machine."""


def append(transaction: Transaction, kind: EventKind, machine: Machine, at: datetime) -> None:
    """Write down what happened to `machine`, as it is now."""
    values = {
        "at": to_wire(at),
        "machine_id": machine.id,
        "kind": kind,
        "state": machine.state,
        "wish": machine.wish,
        "reason": machine.reason,
    }
    key = transaction.connection.execute(insert(events).values(**values)).inserted_primary_key
    assert key is not None  # noqa: S101 - SQLite gives every row a key
    transaction.events.append(
        Event(key[0], at, machine.id, kind, state=machine.state, wish=machine.wish, reason=machine.reason)
    )


def append_found(transaction: Transaction, kind: EventKind, subject: str, reason: str, at: datetime) -> None:
    """Write down what an audit found of `subject`, or found no longer."""
    values = {"at": to_wire(at), "machine_id": subject, "kind": kind, "state": "", "wish": "", "reason": reason}
    key = transaction.connection.execute(insert(events).values(**values)).inserted_primary_key
    assert key is not None  # noqa: S101 - SQLite gives every row a key
    transaction.events.append(Event(key[0], at, subject, kind, state=None, wish=None, reason=reason))


def since(connection: Connection, seq: int, limit: int) -> list[Event]:
    """At most `limit` events after the one numbered `seq`, the oldest first."""
    rows = connection.execute(select(events).where(events.c.seq > seq).order_by(events.c.seq).limit(limit))
    return [_from_row(row) for row in rows]


def last_seq(connection: Connection) -> int:
    """The number of the newest event; 0 when there is none."""
    return connection.execute(select(events.c.seq).order_by(events.c.seq.desc()).limit(1)).scalar() or 0


def lost_machines(connection: Connection) -> list[str]:
    """The machines of which the history says that they were created, and that are neither here nor removed."""
    lives = events.c.kind.in_((EventKind.CREATED, EventKind.REMOVED))
    newest = select(func.max(events.c.seq)).where(lives).group_by(events.c.machine_id)
    created = select(events.c.machine_id).where(events.c.seq.in_(newest), events.c.kind == EventKind.CREATED)
    gone = created.where(events.c.machine_id.not_in(select(machines.c.id)))
    return sorted(connection.execute(gone).scalars())


def removal_of(connection: Connection, machine_id: str) -> Event | None:
    """The removal of the machine that last had this id, if it was removed."""
    its_own = (events.c.machine_id == machine_id) & events.c.kind.not_in(FOUND)
    row = connection.execute(select(events).where(its_own).order_by(events.c.seq.desc()).limit(1)).first()
    return _from_row(row) if row is not None and row.kind == EventKind.REMOVED else None


def _from_row(row: Row[Any]) -> Event:
    return Event(
        seq=row.seq,
        at=from_wire(row.at),
        machine_id=row.machine_id,
        kind=EventKind(row.kind),
        state=State(row.state) if row.state else None,
        wish=Wish(row.wish) if row.wish else None,
        reason=row.reason,
    )
