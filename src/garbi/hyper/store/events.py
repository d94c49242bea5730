"""Events: the history of every machine, kept after the machine is gone (invariant I4)."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, insert, select

from garbi.base.clock import from_wire, to_wire
from garbi.hyper.model.event import Event, EventKind
from garbi.hyper.model.machine import Machine, State, Wish
from garbi.hyper.store.database import Transaction
from garbi.hyper.store.schema import events


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


def since(connection: Connection, seq: int, limit: int) -> list[Event]:
    """At most `limit` events after the one numbered `seq`, the oldest first."""
    rows = connection.execute(select(events).where(events.c.seq > seq).order_by(events.c.seq).limit(limit))
    return [_from_row(row) for row in rows]


def last_seq(connection: Connection) -> int:
    """The number of the newest event; 0 when there is none."""
    return connection.execute(select(events.c.seq).order_by(events.c.seq.desc()).limit(1)).scalar() or 0


def removal_of(connection: Connection, machine_id: str) -> Event | None:
    """The removal of the machine that last had this id, if it was removed."""
    newest = select(events).where(events.c.machine_id == machine_id).order_by(events.c.seq.desc()).limit(1)
    row = connection.execute(newest).first()
    return _from_row(row) if row is not None and row.kind == EventKind.REMOVED else None


def _from_row(row: Row[Any]) -> Event:
    return Event(
        row.seq, from_wire(row.at), row.machine_id, EventKind(row.kind), State(row.state), Wish(row.wish), row.reason
    )
