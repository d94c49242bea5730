"""Which machine a create with an `Idempotency-Key` made, so that the same request twice makes one machine (invariant I9)."""

from __future__ import annotations

from sqlalchemy import Connection, delete, insert, select

from garbi.base.clock import to_wire
from garbi.base.errors import Conflict, NotFound
from garbi.iaas.model.machine import Machine
from garbi.iaas.store.database import Transaction
from garbi.iaas.store.schema import idempotency, machines


def machine_of(connection: Connection, key: str, fingerprint: str) -> str | None:
    """The id of the machine that was made with `key`.

    Raises Conflict when another request used that key, NotFound when another machine has that id now.
    """
    row = connection.execute(select(idempotency).where(idempotency.c.key == key)).first()
    if row is None:
        return None
    if row.fingerprint != fingerprint:
        raise Conflict("this Idempotency-Key was used for a different request", field="Idempotency-Key")
    successor = (machines.c.id == row.machine_id) & (machines.c.created_at != row.created_at)
    if connection.execute(select(machines.c.id).where(successor)).first() is not None:
        raise NotFound(
            f"machine {row.machine_id}, which this Idempotency-Key made, was removed; another has its id now"
        )
    return str(row.machine_id)


def remember(transaction: Transaction, key: str, fingerprint: str, machine: Machine) -> None:
    """Write down that `key` made `machine`."""
    transaction.connection.execute(
        insert(idempotency).values(
            key=key, fingerprint=fingerprint, machine_id=machine.id, created_at=to_wire(machine.created_at)
        )
    )


def forget(transaction: Transaction, machine: Machine) -> None:
    """Let the key that made `machine` make one again: the machine was never there."""
    same = (idempotency.c.machine_id == machine.id) & (idempotency.c.created_at == to_wire(machine.created_at))
    transaction.connection.execute(delete(idempotency).where(same))
