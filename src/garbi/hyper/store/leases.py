"""Of each controller: who was last heard for it, the number of its lease, and the last number that was ended for good."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, select
from sqlalchemy.dialects.sqlite import insert

from garbi.base.clock import to_wire
from garbi.hyper.store.database import Transaction
from garbi.hyper.store.schema import leases


@dataclass(frozen=True, slots=True)
class LeaseRow:
    """What of a lease outlives a boot of the host."""

    controller: str
    holder: str
    term: int
    number: int
    fenced: int


def find(connection: Connection, controller: str) -> LeaseRow | None:
    """What is written of the lease of a controller."""
    row = connection.execute(select(leases).where(leases.c.controller == controller)).first()
    return None if row is None else _from_row(row)


def search(connection: Connection) -> list[LeaseRow]:
    """The leases of all controllers."""
    return [_from_row(row) for row in connection.execute(select(leases).order_by(leases.c.controller))]


def save(transaction: Transaction, row: LeaseRow, at: datetime) -> None:
    """Write who was heard and for which lease; what was fenced stays fenced."""
    values = {"holder": row.holder, "term": row.term, "number": row.number}
    _write(transaction, row, values, at)
    fence(transaction, row.controller, row.fenced, at)


def fence(transaction: Transaction, controller: str, number: int, at: datetime) -> None:
    """Write that the leases up to that number have ended for good."""
    row = find(transaction.connection, controller) or LeaseRow(controller, "", 0, 0, 0)
    if number > row.fenced:
        _write(transaction, row, {"fenced": number}, at)


def _write(transaction: Transaction, row: LeaseRow, values: Mapping[str, Any], at: datetime) -> None:
    whole = {name: getattr(row, name) for name in LeaseRow.__slots__}
    stamped = {**values, "updated_at": to_wire(at)}
    written = insert(leases).values(**{**whole, **stamped})
    transaction.connection.execute(written.on_conflict_do_update(index_elements=["controller"], set_=stamped))


def _from_row(row: Row[Any]) -> LeaseRow:
    return LeaseRow(row.controller, row.holder, row.term, row.number, row.fenced)
