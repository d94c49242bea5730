"""The secrets of nodes: what the controller shows to each agent, and to what switches its host off.

They never leave these tables but for that (invariant I14).
"""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection, delete, insert, select, update

from garbi.iaas.store.database import Transaction
from garbi.iaas.store.schema import fence_secrets, node_secrets


def put(transaction: Transaction, name: str, secret: str) -> None:
    """Keep the secret of a node, in place of an earlier one. It goes when its node goes."""
    same = node_secrets.c.node == name
    changed = transaction.connection.execute(update(node_secrets).where(same).values(secret=secret))
    if changed.rowcount == 0:
        transaction.connection.execute(insert(node_secrets).values(node=name, secret=secret))


def get(connection: Connection, name: str) -> str | None:
    """The secret of a node."""
    return connection.execute(select(node_secrets.c.secret).where(node_secrets.c.node == name)).scalar()


def put_power(transaction: Transaction, name: str, secrets: Mapping[str, str]) -> None:
    """Keep the secret options of a node's fence agent, in place of all earlier ones. They go when the node goes."""
    transaction.connection.execute(delete(fence_secrets).where(fence_secrets.c.node == name))
    for option, value in secrets.items():
        transaction.connection.execute(insert(fence_secrets).values(node=name, name=option, value=value))


def power_of(connection: Connection, name: str) -> dict[str, str]:
    """The secret options of a node's fence agent."""
    rows = connection.execute(select(fence_secrets).where(fence_secrets.c.node == name))
    return {row.name: row.value for row in rows}
