"""The secrets of nodes: what the controller shows to each agent. They never leave this table but for that (invariant I14)."""

from __future__ import annotations

from sqlalchemy import Connection, insert, select, update

from garbi.iaas.store.database import Transaction
from garbi.iaas.store.schema import node_secrets


def put(transaction: Transaction, name: str, secret: str) -> None:
    """Keep the secret of a node, in place of an earlier one. It goes when its node goes."""
    same = node_secrets.c.node == name
    changed = transaction.connection.execute(update(node_secrets).where(same).values(secret=secret))
    if changed.rowcount == 0:
        transaction.connection.execute(insert(node_secrets).values(node=name, secret=secret))


def get(connection: Connection, name: str) -> str | None:
    """The secret of a node."""
    return connection.execute(select(node_secrets.c.secret).where(node_secrets.c.node == name)).scalar()
