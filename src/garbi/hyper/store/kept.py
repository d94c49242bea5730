"""Kept disks as rows. Every function works inside the caller's transaction.

A name is given once: who keeps a second disk of the same machine and epoch gets another name, so that none replaces another.
"""

from __future__ import annotations

from datetime import datetime
from itertools import count
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from garbi.base.clock import from_wire, to_wire
from garbi.base.errors import Busy, NotFound
from garbi.hyper.model.kept import Kept, KeptDisk, epoch_of
from garbi.hyper.model.machine import Machine, Wish
from garbi.hyper.store import machines as machines_of
from garbi.hyper.store.database import Transaction
from garbi.hyper.store.schema import kept, machines


def name_for(connection: Connection, machine: Machine) -> str:
    """The name to keep the disk of a machine under: `<id>.<epoch>`, with `-2` and so on where that is given.

    It is the same one until the machine's row is deleted: `delete_kept` refuses while the machine is being kept.
    """
    first = f"{machine.id}.{epoch_of(machine.labels)}"
    given = set(connection.execute(select(kept.c.name).where(kept.c.machine_id == machine.id)).scalars())
    names = (first if number == 1 else f"{first}-{number}" for number in count(1))
    return next(name for name in names if name not in given)


def insert_kept(transaction: Transaction, machine: Machine, disk: KeptDisk, keep_s: int, at: datetime) -> Kept:
    """Write down that the machine's disk is kept, under `name_for`: in the transaction that deletes the machine."""
    record = Kept(
        name=name_for(transaction.connection, machine),
        machine_id=machine.id,
        type=machine.type,
        image_sha256="" if machine.full_copy else machine.image_sha256,
        epoch=epoch_of(machine.labels),
        place=disk.place,
        size=disk.size,
        kept_at=at,
        keep_s=keep_s,
        age_s=0,
    )
    put_kept(transaction, record)
    return record


def put_kept(transaction: Transaction, record: Kept) -> None:
    """Write a row as it is."""
    values = {name: getattr(record, name) for name in COLUMNS} | {"kept_at": to_wire(record.kept_at)}
    transaction.connection.execute(insert(kept).values(**values))


def find_kept(connection: Connection, name: str) -> Kept | None:
    """The kept disk of that name."""
    row = connection.execute(select(kept).where(kept.c.name == name)).first()
    return _from_row(row) if row is not None else None


def list_kept(connection: Connection) -> list[Kept]:
    """Every kept disk, by name."""
    return [_from_row(row) for row in connection.execute(select(kept).order_by(kept.c.name))]


def check_free(connection: Connection, name: str) -> Kept:
    """The kept disk of that name, which may be dropped now.

    Raises NotFound, and Busy while another disk of the same machine is on its way to be kept, which shares its names.
    """
    record = find_kept(connection, name)
    if record is None:
        raise NotFound(f"no disk is kept as {name[:80]}")
    if record.machine_id in being_kept(connection):
        raise Busy(f"another disk of {record.machine_id} is being kept at this moment; try again in a while")
    return record


def delete_kept(transaction: Transaction, name: str) -> None:
    """Delete the row of a disk that is dropped; raises what `check_free` raises."""
    check_free(transaction.connection, name)
    transaction.connection.execute(delete(kept).where(kept.c.name == name))


def being_kept(connection: Connection) -> set[str]:
    """The ids of machines that are being removed, and whose disks are to be kept."""
    wished = (machines.c.wish == Wish.REMOVED) & (machines.c.keep_s > 0)
    return set(connection.execute(select(machines.c.id).where(wished)).scalars())


def names_awaited(connection: Connection) -> set[str]:
    """The names under which disks are being kept at this moment, whose rows are yet to be written."""
    wished = [machines_of.find(connection, machine_id) for machine_id in being_kept(connection)]
    return {name_for(connection, machine) for machine in wished if machine is not None}


def advance(transaction: Transaction, seconds: int) -> None:
    """Let every kept disk grow older by that many seconds, of a clock that does not jump."""
    transaction.connection.execute(update(kept).values(age_s=kept.c.age_s + seconds))


def list_due(connection: Connection) -> list[Kept]:
    """The kept disks whose time is over, the oldest first."""
    due = select(kept).where(kept.c.age_s >= kept.c.keep_s).order_by(kept.c.kept_at, kept.c.name)
    return [_from_row(row) for row in connection.execute(due)]


COLUMNS = (
    "name", "machine_id", "type", "image_sha256", "epoch", "place", "size", "kept_at", "keep_s", "age_s",
)  # fmt: skip


def _from_row(row: Row[Any]) -> Kept:
    return Kept(**{name: getattr(row, name) for name in COLUMNS} | {"kept_at": from_wire(row.kept_at)})
