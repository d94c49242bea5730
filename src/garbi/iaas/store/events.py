"""Events: the history of everything in the cloud, kept after its subject is gone (invariant I4)."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, insert, select

from garbi.base.clock import from_wire, to_wire
from garbi.iaas.model.event import Event, Subject
from garbi.iaas.store.database import Transaction
from garbi.iaas.store.schema import events

USER = "user"
CONTROLLER = "controller"


class Kind(StrEnum):
    """What can happen to a subject."""

    CREATED = "created"
    WISH = "wish"
    STATE = "state"
    CHANGED = "changed"
    MOVED = "moved"
    REMOVED = "removed"
    FINISHED = "finished"
    LEASE = "lease"
    FENCE = "fence"
    FAILOVER = "failover"
    RETURNED = "returned"
    VIOLATION = "violation"
    RESOLVED = "resolved"


def node_actor(name: str) -> str:
    """How a node is called as the one who did something."""
    return f"node:{name}"


def append(
    transaction: Transaction,
    subject: Subject,
    subject_id: str,
    kind: str,
    at: datetime,
    *,
    state: str = "",
    actor: str = CONTROLLER,
    reason: str = "",
) -> Event:
    """Write down what happened to a subject, whose state is now `state`.

    Numbers grow with the commits, so that who reads on from the last one it saw misses none: writers come one after the other
    (see `garbi.storage.engine`).
    """
    event = Event(0, at, subject, subject_id, kind, state, actor, reason)
    seq = transaction.connection.execute(insert(events).values(**_to_row(event))).inserted_primary_key
    assert seq is not None  # noqa: S101 - every row gets a number
    event = Event(seq[0], at, subject, subject_id, kind, state, actor, reason)
    transaction.events.append(event)
    return event


def passing(subject: Subject, subject_id: str, at: datetime, state: str, reason: str) -> Event:
    """An event for listeners only: it has no number and is not kept."""
    return Event(0, at, subject, subject_id, Kind.STATE, state, CONTROLLER, reason)


def since(connection: Connection, seq: int, limit: int) -> list[Event]:
    """At most `limit` events after the one numbered `seq`, the oldest first."""
    rows = connection.execute(select(events).where(events.c.seq > seq).order_by(events.c.seq).limit(limit))
    return [_from_row(row) for row in rows]


def last_seq(connection: Connection) -> int:
    """The number of the newest event; 0 when there is none."""
    return connection.execute(select(events.c.seq).order_by(events.c.seq.desc()).limit(1)).scalar() or 0


def was_moved(connection: Connection, machine_id: str) -> bool:
    """Whether the machine of that id, since it was made, was moved to where it is."""
    placing = (events.c.subject == Subject.MACHINE) & events.c.kind.in_((Kind.CREATED, Kind.MOVED))
    wanted = select(events.c.kind).where(events.c.id == machine_id, placing).order_by(events.c.seq.desc()).limit(1)
    return connection.execute(wanted).scalar() == Kind.MOVED


def last_actor(connection: Connection, subject: Subject, subject_id: str, state: str) -> str | None:
    """Who last brought a subject into that state."""
    there = (events.c.id == subject_id) & (events.c.subject == subject) & (events.c.state == state)
    wanted = select(events.c.actor).where(there, events.c.kind == Kind.STATE).order_by(events.c.seq.desc()).limit(1)
    return connection.execute(wanted).scalar()


def removal_of(connection: Connection, subject: Subject, subject_id: str) -> Event | None:
    """The removal of the thing that last had this name or id, if it was removed."""
    same = (events.c.id == subject_id) & (events.c.subject == subject)
    row = connection.execute(select(events).where(same).order_by(events.c.seq.desc()).limit(1)).first()
    return _from_row(row) if row is not None and row.kind == Kind.REMOVED else None


def _to_row(event: Event) -> dict[str, Any]:
    names = ("subject", "id", "kind", "state", "actor", "reason")
    return {"at": to_wire(event.at)} | {name: str(getattr(event, name)) for name in names}


def _from_row(row: Row[Any]) -> Event:
    return Event(
        seq=row.seq,
        at=from_wire(row.at),
        subject=Subject(row.subject),
        id=row.id,
        kind=row.kind,
        state=row.state,
        actor=row.actor,
        reason=row.reason,
    )
