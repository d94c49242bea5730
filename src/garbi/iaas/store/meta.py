"""Single values of this cloud: who it is, for ever."""

from __future__ import annotations

from sqlalchemy import Connection, insert, select, update

from garbi.iaas.store.database import Database, Transaction
from garbi.iaas.store.schema import meta

CLUSTER_ID = "cluster_id"
TERM = "term"
LEADER = "leader"
TOKEN = "token"  # noqa: S105 - the name of the key, not what is under it
WITNESS_KEY = "witness_key"
"""With what nodes ask one another when they last heard the controller."""

VIOLATIONS = "violations"
DOUBTED = "doubted"
"""The nodes that could not be asked what they know better when the database was restored from a backup; empty: all were."""


def get(connection: Connection, key: str) -> str | None:
    """The value kept under `key`."""
    return connection.execute(select(meta.c.value).where(meta.c.key == key)).scalar()


def put(transaction: Transaction, key: str, value: str) -> None:
    """Keep `value` under `key`, in place of an earlier one."""
    changed = transaction.connection.execute(update(meta).where(meta.c.key == key).values(value=value))
    if changed.rowcount == 0:
        transaction.connection.execute(insert(meta).values(key=key, value=value))


def get_or_set(database: Database, key: str, value: str) -> str:
    """The value kept under `key`; `value` becomes it when there was none."""
    with database.write() as transaction:
        kept = get(transaction.connection, key)
        if kept is None:
            put(transaction, key, value)
        return value if kept is None else kept
