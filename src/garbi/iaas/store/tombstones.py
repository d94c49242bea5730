"""Tombstones as rows: nodes that were removed by force while they were silent. Only their agents see their secrets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, Row, select, update
from sqlalchemy import delete as delete_from
from sqlalchemy import insert as insert_into

from garbi.base.clock import from_wire, to_wire
from garbi.iaas.model.tombstone import Tombstone
from garbi.iaas.store.database import Transaction
from garbi.iaas.store.schema import tombstones


def put(transaction: Transaction, tombstone: Tombstone) -> None:
    """Write a tombstone; what an earlier one of that agent lists is listed still."""
    earlier = find(transaction.connection, tombstone.cluster_id)
    if earlier is not None:
        tombstone = replace(
            tombstone,
            lease=max(earlier.lease, tombstone.lease),
            machines={**earlier.machines, **tombstone.machines},
            may_run=tuple(sorted({*earlier.may_run, *tombstone.may_run})),
        )
        delete(transaction, tombstone.cluster_id)
    transaction.connection.execute(insert_into(tombstones).values(**_to_row(tombstone)))


def find(connection: Connection, cluster_id: str) -> Tombstone | None:
    """The tombstone of an agent."""
    row = connection.execute(select(tombstones).where(tombstones.c.cluster_id == cluster_id)).first()
    return None if row is None else _from_row(row)


def list(connection: Connection) -> Sequence[Tombstone]:
    """Every tombstone, the oldest first."""
    order = (tombstones.c.removed_at, tombstones.c.cluster_id)
    return [_from_row(row) for row in connection.execute(select(tombstones).order_by(*order))]


def secret_of(connection: Connection, cluster_id: str) -> str | None:
    """What the controller shows to that agent."""
    return connection.execute(select(tombstones.c.secret).where(tombstones.c.cluster_id == cluster_id)).scalar()


def note(transaction: Transaction, tombstone: Tombstone) -> None:
    """Write what became of an attempt to ask, and the lease that its orders need; nothing when it is gone."""
    same = tombstones.c.cluster_id == tombstone.cluster_id
    values = {"said": tombstone.said, "lease": tombstone.lease}
    transaction.connection.execute(update(tombstones).where(same).values(**values))


def delete(transaction: Transaction, cluster_id: str) -> bool:
    """Forget a tombstone with its secret; False when there is none."""
    gone = transaction.connection.execute(delete_from(tombstones).where(tombstones.c.cluster_id == cluster_id))
    return gone.rowcount == 1


def _to_row(tombstone: Tombstone) -> dict[str, Any]:
    names = ("cluster_id", "name", "host", "port", "lease", "said", "secret")
    row = {name: getattr(tombstone, name) for name in names}
    lists = {"machines": dict(tombstone.machines), "may_run": [*tombstone.may_run]}
    return row | lists | {"removed_at": to_wire(tombstone.removed_at)}


def _from_row(row: Row[Any]) -> Tombstone:
    return Tombstone(
        cluster_id=row.cluster_id,
        name=row.name,
        host=row.host,
        port=row.port,
        lease=row.lease,
        machines={str(key): int(epoch) for key, epoch in row.machines.items()},
        may_run=tuple(row.may_run),
        said=row.said,
        removed_at=from_wire(row.removed_at),
        secret=row.secret,
    )
