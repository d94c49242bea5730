"""What a user may have otherwise of a node that is there: what is refused, what is written, and how that is told."""

from __future__ import annotations

from garbi.base.errors import InvalidField
from garbi.base.token import FORM
from garbi.iaas.model.node import Node, NodeChange
from garbi.iaas.model.power import changed
from garbi.iaas.store import nodes, secrets
from garbi.iaas.store.database import Transaction


def write_change(transaction: Transaction, node: Node, change: NodeChange) -> str:
    """Write what is wanted otherwise; returns what of it is told to everybody. Raises InvalidField."""
    told = []
    if change.token is not None:
        check_token(change.token)
        secrets.put(transaction, node.name, change.token)
        told.append("its agent has another token")
    if change.power is not None:
        power, kept = changed(node.power, secrets.power_of(transaction.connection, node.name), change.power)
        nodes.note_power(transaction, node.name, power)
        secrets.put_power(transaction, node.name, kept)
        told.append(f"its host is switched off by {power.agent}")
    elif change.no_power:
        nodes.note_power(transaction, node.name, None)
        secrets.put_power(transaction, node.name, {})
        told.append("its host is switched off by no fence agent any more")
    return "; ".join(told)


def check_token(token: str) -> None:
    """Raise InvalidField when no agent can have that token."""
    if not FORM.match(token):
        raise InvalidField("token", "token takes what the token file of the agent has: one line without spaces")
