"""What is written when a database is older than what nodes remember: that is taken over, or passed by.

It was restored from a backup, or PostgreSQL failed over to a replica that was behind.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from sqlalchemy import case, update

from garbi.base.clock import to_wire
from garbi.iaas.model.event import Subject
from garbi.iaas.model.machine import Machine, Moving
from garbi.iaas.store import events, meta, nodes
from garbi.iaas.store.database import Transaction
from garbi.iaas.store.schema import machines
from garbi.iaas.store.schema import nodes as node_table

LEAP = 1_000_000
"""More than the wishes of a machine that may be missing from a backup."""


def raise_term(transaction: Transaction, term: int) -> None:
    """Let the present term be at least that one."""
    if term > int(meta.get(transaction.connection, meta.TERM) or 0):
        meta.put(transaction, meta.TERM, str(term))


def raise_lease(transaction: Transaction, name: str, number: int) -> None:
    """Let the lease of a node have at least that number."""
    earlier = (node_table.c.name == name) & (node_table.c.lease < number)
    transaction.connection.execute(update(node_table).where(earlier).values(lease=number))


def leap_generations(transaction: Transaction) -> None:
    """Let each wish from now on count as later than any that hosts have heard; what was settled stays so."""
    columns = (machines.c.generation, machines.c.told_generation, machines.c.settled_generation)
    values = {column.name: case((column > 0, column + LEAP), else_=column) for column in columns}
    transaction.connection.execute(update(machines).values(values))


def outgrow(transaction: Transaction, machine: Machine, ordered: int | None) -> None:
    """Let the wish of one machine count as later than the one numbered `ordered` (None: by as much as may be missing), unless
    there is a newer one already.
    """
    most = machine.generation + LEAP
    generation = most if ordered is None else min(max(ordered, machine.generation) + 1, most)
    same = (machines.c.id == machine.id) & (machines.c.epoch == machine.epoch)
    newest = machines.c.generation == machine.generation
    transaction.connection.execute(update(machines).where(same, newest).values(generation=generation))


def adopt(transaction: Transaction, machine: Machine, node: str, epoch: int, now: datetime) -> bool:
    """Let a machine be where it was found, in the assignment that it has there; False when its node has no room for it.

    Raises the database's own IntegrityError when one of its ports is another's there.
    """
    if machine.node != node:
        if not nodes.reserve(transaction, node, machine.amounts):
            return False
        if machine.node is not None:
            nodes.release(transaction, machine.node, machine.amounts)
    found = replace(machine, node=node, epoch=epoch)
    values = {
        "node": node, "epoch": epoch, "refused": False, "told_generation": machine.generation, "updated_at": to_wire(now),
        "moving": Moving.NO, "moving_why": "",
    }  # fmt: skip
    transaction.connection.execute(update(machines).where(machines.c.id == machine.id).values(**values))
    reason = f"found on {node}, assignment {epoch}, of which this database had no record (it was {machine.node}, {machine.epoch})"
    _tell(transaction, found, events.Kind.MOVED, now, reason)
    return True


def _tell(transaction: Transaction, machine: Machine, kind: str, now: datetime, reason: str) -> None:
    events.append(transaction, Subject.MACHINE, machine.id, kind, now, state=machine.state, reason=reason)
