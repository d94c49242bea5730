"""Operations as rows: what takes time, how far it has come, and how it ended, once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, func, select, update
from sqlalchemy import insert as insert_into

from garbi.base.clock import from_wire, to_wire
from garbi.base.errors import InvalidField
from garbi.base.filters import check_filters
from garbi.iaas.model.event import Subject
from garbi.iaas.model.operation import Operation, OperationKind, OperationState
from garbi.iaas.model.query import OPERATION_FILTERS
from garbi.iaas.store import events
from garbi.iaas.store.database import Transaction
from garbi.iaas.store.filters import matching
from garbi.iaas.store.node_rows import moment_of, moment_text
from garbi.iaas.store.schema import operations

PLAIN = ("id", "kind", "target", "state", "step", "steps", "progress", "message")


def insert(transaction: Transaction, operation: Operation) -> None:
    """Write an operation that begins."""
    transaction.connection.execute(insert_into(operations).values(**_to_row(operation)))
    _tell(transaction, operation, events.Kind.CREATED)


def find(connection: Connection, operation_id: str) -> Operation | None:
    """The operation with that id."""
    row = connection.execute(select(operations).where(operations.c.id == operation_id)).first()
    return _from_row(row) if row is not None else None


def list(
    connection: Connection,
    filters: Mapping[str, str] | None = None,
    limit: int | None = None,
    marker: str | None = None,
) -> Sequence[Operation]:
    """The operations whose fields equal `filters`, the oldest first: at most `limit`, after the one whose id is `marker`.

    Raises UnknownFilter, or InvalidField when the marker is not an operation.
    """
    asked = filters or {}
    check_filters(asked, OPERATION_FILTERS)
    conditions = matching(operations, asked)
    if marker is not None:
        seq = connection.execute(select(operations.c.seq).where(operations.c.id == marker)).scalar()
        if seq is None:
            raise InvalidField("marker", f"marker {marker[:80]!r} is not the id of an operation")
        conditions.append(operations.c.seq > seq)
    return _read(connection, *conditions, limit=limit)


def running(connection: Connection) -> Sequence[Operation]:
    """The operations that have not finished, the oldest first."""
    return _read(connection, operations.c.state == OperationState.RUNNING)


def count(connection: Connection) -> dict[tuple[str, str], int]:
    """How many operations there are of each kind in each state."""
    counted = select(operations.c.kind, operations.c.state, func.count()).group_by(
        operations.c.kind, operations.c.state
    )
    return {(kind, state): number for kind, state, number in connection.execute(counted)}


def progress(
    transaction: Transaction,
    operation_id: str,
    now: datetime,
    *,
    step: int | None = None,
    steps: int | None = None,
    progress: float | None = None,
    message: str | None = None,
) -> Operation | None:
    """Write how far an operation has come (what is None stays as it was); None when it has finished or there is none.

    Listeners are told by an event; only that of a new step is kept in the history, the others have the number 0.
    """
    given = {"step": step, "steps": steps, "progress": progress, "message": message}
    values = {name: value for name, value in given.items() if value is not None}
    before = find(transaction.connection, operation_id)
    if before is None or not _update(transaction, operation_id, **values, updated_at=to_wire(now)):
        return None
    after = find(transaction.connection, operation_id)
    assert after is not None  # noqa: S101 - it was updated in this transaction
    if after.step != before.step:
        _tell(transaction, after, events.Kind.STATE)
    else:
        transaction.events.append(events.passing(Subject.OPERATION, after.id, now, after.state, after.message))
    return after


def finish(
    transaction: Transaction,
    operation_id: str,
    state: OperationState,
    now: datetime,
    *,
    message: str | None = None,
    error: Mapping[str, Any] | None = None,
) -> bool:
    """End an operation as done or failed, with the problem document of its failure; False when it has ended already."""
    values: dict[str, Any] = {"state": state, "finished_at": to_wire(now), "updated_at": to_wire(now)}
    if state is OperationState.DONE:
        values["progress"] = 1.0
    if message is not None:
        values["message"] = message
    if error is not None:
        values["error"] = dict(error)
    if not _update(transaction, operation_id, **values):
        return False
    after = find(transaction.connection, operation_id)
    assert after is not None  # noqa: S101 - it was updated in this transaction
    _tell(transaction, after, events.Kind.FINISHED)
    return True


def _read(connection: Connection, *conditions: ColumnElement[bool], limit: int | None = None) -> Sequence[Operation]:
    statement = select(operations).where(*conditions).order_by(operations.c.seq)
    rows = connection.execute(statement if limit is None else statement.limit(limit))
    return [_from_row(row) for row in rows]


def _update(transaction: Transaction, operation_id: str, **values: Any) -> bool:
    going = (operations.c.id == operation_id) & (operations.c.state == OperationState.RUNNING)
    return transaction.connection.execute(update(operations).where(going).values(**values)).rowcount == 1


def _tell(transaction: Transaction, operation: Operation, kind: str) -> None:
    events.append(
        transaction, Subject.OPERATION, operation.id, kind, operation.updated_at, state=operation.state,
        reason=str(operation.error["detail"]) if operation.error and "detail" in operation.error else operation.message,
    )  # fmt: skip


def _to_row(operation: Operation) -> dict[str, Any]:
    row = {name: getattr(operation, name) for name in PLAIN}
    return row | {
        "error": None if operation.error is None else dict(operation.error),
        "created_at": to_wire(operation.created_at),
        "updated_at": to_wire(operation.updated_at),
        "finished_at": moment_text(operation.finished_at),
    }


def _from_row(row: Row[Any]) -> Operation:
    return Operation(
        id=row.id,
        kind=OperationKind(row.kind),
        target=row.target,
        state=OperationState(row.state),
        step=row.step,
        steps=row.steps,
        progress=row.progress,
        message=row.message,
        error=row.error,
        created_at=from_wire(row.created_at),
        updated_at=from_wire(row.updated_at),
        finished_at=moment_of(row.finished_at),
    )
