"""Machines as rows. Every function works inside the caller's transaction."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from ipaddress import IPv4Network
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from garbi.base.clock import to_wire
from garbi.base.errors import AlreadyExists, CapacityExceeded, InvalidField, PortTaken, UnknownImage
from garbi.hyper.model.capacity import Capacity
from garbi.hyper.model.event import EventKind
from garbi.hyper.model.machine import (
    Awaits,
    Machine,
    Protocol,
    PublishedPort,
    State,
    Wish,
)
from garbi.hyper.model.query import MachineQuery
from garbi.hyper.store import events
from garbi.hyper.store.database import Transaction
from garbi.hyper.store.schema import images, machines, ports
from garbi.storage.rows import row_of, thing_of

ANY_ADDRESS = "0.0.0.0"  # noqa: S104 - published ports are on every address of the host
NUMBERS = ("mem", "cpus")
_NUMBER = re.compile(r"-?[0-9]{1,18}\Z")


def insert_machine(transaction: Transaction, machine: Machine, capacity: Capacity) -> None:
    """Write a new machine with its ports, if there is room for it.

    Raises AlreadyExists (the id), PortTaken (the machine that has it), CapacityExceeded, UnknownImage (it went meanwhile).
    """
    connection = transaction.connection
    _check_image(connection, machine)
    if find(connection, machine.id) is not None:
        raise AlreadyExists(f"a machine with the id {machine.id} is here already", field="id")
    _check_ports(connection, machine.ports)
    _check_capacity(connection, machine, capacity)
    put_machine(transaction, machine)
    used = update(images).where(images.c.name == machine.image)
    connection.execute(used.values(used_at=to_wire(machine.created_at)))
    events.append(transaction, EventKind.CREATED, machine, machine.created_at)


def put_machine(transaction: Transaction, machine: Machine) -> None:
    """Write a machine with its ports as it is; the database refuses a second owner of a port or an address."""
    transaction.connection.execute(insert(machines).values(**_to_row(machine)))
    if machine.ports:
        transaction.connection.execute(insert(ports), [_port_row(machine.id, port) for port in machine.ports])


def find(connection: Connection, machine_id: str) -> Machine | None:
    """The machine with that id."""
    row = connection.execute(select(machines).where(machines.c.id == machine_id)).first()
    return _from_row(row, _ports_of(connection, [machine_id]).get(machine_id, ())) if row is not None else None


def search(connection: Connection, query: MachineQuery) -> list[Machine]:
    """The machines that a query asks for, the oldest first; raises InvalidField when the marker is not a machine."""
    statement = select(machines).order_by(machines.c.seq)
    for name, value in query.filters.items():
        column = machines.c[name]
        statement = statement.where(column == (_number(name, value) if name in NUMBERS else value))
    if query.marker is not None:
        marker = connection.execute(select(machines.c.seq).where(machines.c.id == query.marker)).scalar()
        if marker is None:
            raise InvalidField("marker", f"marker {query.marker[:80]!r} is not the id of a machine")
        statement = statement.where(machines.c.seq > marker)
    if query.limit is not None:
        statement = statement.limit(query.limit)
    rows = connection.execute(statement).all()
    published = _ports_of(connection, None if len(rows) > 1 else [row.id for row in rows])
    return [_from_row(row, published.get(row.id, ())) for row in rows]


def save_wish(
    transaction: Transaction, machine: Machine, wish: Wish, at: datetime, *, lease: int | None = None, keep_s: int = 0
) -> Machine:
    """Write the user's wish: a new generation, which the host has yet to settle. What the agent meant to do is void.

    `lease` is the number of the lease under which it is wished (None: nobody's), `keep_s` how long the disk outlives the machine.
    """
    changed = replace(
        machine,
        wish=wish,
        generation=machine.generation + 1,
        awaits=Awaits.NOTHING,
        restarts=0,
        attempts=0,
        lease=machine.lease if lease is None else lease,
        keep_s=keep_s,
        updated_at=at,
    )
    values = {name: getattr(changed, name) for name in WISHED}
    _update(transaction, machine.id, **values, updated_at=to_wire(at))
    events.append(transaction, EventKind.WISH, changed, at)
    return changed


def save_order(transaction: Transaction, machine: Machine, lease: int, number: int) -> Machine:
    """Write under which lease an order came, and its number, whatever else it changes: it frees a machine that was held for an
    older lease.
    """
    ordered = max(number, machine.ordered)
    _update(transaction, machine.id, lease=lease, ordered=ordered)
    if lease != machine.lease:
        transaction.noted.append(machine.id)  # no event tells it, and its file has it
    return replace(machine, lease=lease, ordered=ordered)


def save_state(transaction: Transaction, before: Machine, after: Machine) -> None:
    """Write what the agent found out: state, reason, address, the generation settled. The wish is not the agent's to write.

    What the agent means to do by itself is written only if nothing was wished meanwhile.
    """
    _update(
        transaction,
        after.id,
        state=after.state,
        reason=after.reason,
        address=after.address,
        settled_generation=after.settled_generation,
        boot_id=after.boot_id,
        engine_life=after.engine_life,
        updated_at=to_wire(after.updated_at),
    )
    meant = {name: getattr(after, name) for name in MEANT}
    if meant != {name: getattr(before, name) for name in MEANT}:
        present = (machines.c.id == after.id) & (machines.c.generation == after.generation)
        transaction.connection.execute(update(machines).where(present).values(**meant))
    if (before.state, before.reason, before.settled) != (after.state, after.reason, after.settled):
        events.append(transaction, EventKind.STATE, after, after.updated_at)


def delete_machine(transaction: Transaction, machine: Machine, at: datetime) -> None:
    """Delete the row and its ports; its removal stays in the history."""
    transaction.connection.execute(delete(machines).where(machines.c.id == machine.id))
    events.append(transaction, EventKind.REMOVED, machine, at)


def wish_again_after_reboot(transaction: Transaction, boot_id: str, at: datetime) -> int:
    """Unsettle every machine that ran in another boot of this host, with all attempts before it; returns how many."""
    lost = (machines.c.boot_id != boot_id) & (machines.c.wish.in_((Wish.RUNNING, Wish.PAUSED)))
    lost &= machines.c.state.in_((State.RUNNING, State.PAUSED, State.UNKNOWN))
    afresh = {"awaits": Awaits.NOTHING, "restarts": 0, "attempts": 0}
    values = {"generation": machines.c.generation + 1, "wish": Wish.RUNNING, **afresh, "updated_at": to_wire(at)}
    return transaction.connection.execute(update(machines).where(lost).values(**values)).rowcount


def wish_again(transaction: Transaction, machine: Machine, reason: str, at: datetime) -> None:
    """Wish once more for a machine that ran and was ended by no wish of anybody's; not if something was wished meanwhile.

    What the agent meant to do about its end is void. How often it was restarted is as `machine` says.
    """
    changed = replace(
        machine,
        wish=Wish.RUNNING,
        state=State.STOPPED,
        reason=reason,
        generation=machine.generation + 1,
        awaits=Awaits.NOTHING,
        attempts=0,
        engine_life="",
        updated_at=at,
    )
    names = ("wish", "state", "reason", "generation", "engine_life", *MEANT)
    values = {name: getattr(changed, name) for name in names}
    present = (machines.c.id == machine.id) & (machines.c.generation == machine.generation)
    written = update(machines).where(present).values(**values, updated_at=to_wire(at))
    if transaction.connection.execute(written).rowcount:
        events.append(transaction, EventKind.STATE, changed, at)


def port_holder(connection: Connection, port: PublishedPort) -> str | None:
    """The id of the machine that a port of the host belongs to."""
    same = (ports.c.protocol == port.protocol) & (ports.c.node_port == port.node_port)
    return connection.execute(select(ports.c.machine_id).where(same)).scalar()


def free_address(connection: Connection, subnet: IPv4Network, gateway: str) -> str:
    """An address of the guest network that no machine has reserved; raises CapacityExceeded when all are taken."""
    taken = set(connection.execute(select(machines.c.reserved_address)).scalars()) | {gateway}
    free = next((str(host) for host in subnet.hosts() if str(host) not in taken), None)
    if free is None:
        raise CapacityExceeded(f"the guest network {subnet} has no free address left", field="address")
    return free


def reservation(connection: Connection) -> tuple[int, int]:
    """Memory in MiB and processors that all machines have reserved together."""
    sums = select(func.coalesce(func.sum(machines.c.mem), 0), func.coalesce(func.sum(machines.c.cpus), 0))
    mem, cpus = connection.execute(sums).one()
    return int(mem), int(cpus)


def _check_image(connection: Connection, machine: Machine) -> None:
    if not machine.image_sha256 or "/" in machine.image:
        return
    same = (images.c.name == machine.image) & (images.c.sha256 == machine.image_sha256)
    if connection.execute(select(images.c.name).where(same)).first() is None:
        raise UnknownImage("image", f"no image is called {machine.image}")


def _check_ports(connection: Connection, wanted: Sequence[PublishedPort]) -> None:
    for port in wanted:
        holder = port_holder(connection, port)
        if holder is not None:
            raise PortTaken(
                f"port {port.node_port}/{port.protocol} belongs to machine {holder}",
                field="ports",
                holder=f"machine {holder}",
            )


def _check_capacity(connection: Connection, machine: Machine, capacity: Capacity) -> None:
    if machine.cpus > capacity.cpus_per_machine:
        raise CapacityExceeded(
            f"cpus {machine.cpus} is more than the {capacity.cpus_per_machine} processors of this host",
            field="cpus",
            allowed=f"1 to {capacity.cpus_per_machine}",
        )
    mem, cpus = reservation(connection)
    for name, wanted, limit, used, unit in (
        ("mem", machine.mem, capacity.mem, mem, "MiB"),
        ("cpus", machine.cpus, capacity.cpus, cpus, "processors"),
    ):
        if used + wanted > limit:
            left = max(limit - used, 0)
            raise CapacityExceeded(
                f"{name} {wanted} is more than the {left} {unit} left of {limit} on this host",
                field=name,
                allowed=f"at most {left}",
            )


def _update(transaction: Transaction, machine_id: str, **values: Any) -> None:
    transaction.connection.execute(update(machines).where(machines.c.id == machine_id).values(**values))


def _number(name: str, value: str) -> int:
    """The number, which SQLite has to be able to hold."""
    if not _NUMBER.match(value):
        raise InvalidField(name, f"filter {name} takes a whole number, not {value[:80]!r}")
    return int(value)


def _port_row(machine_id: str, port: PublishedPort) -> dict[str, Any]:
    return {
        "machine_id": machine_id,
        "protocol": port.protocol,
        "address": ANY_ADDRESS,
        "node_port": port.node_port,
        "machine_port": port.machine_port,
    }


def _ports_of(connection: Connection, ids: Iterable[str] | None) -> dict[str, tuple[PublishedPort, ...]]:
    statement = select(ports).order_by(ports.c.node_port)
    if ids is not None:
        statement = statement.where(ports.c.machine_id.in_(list(ids)))
    found: dict[str, list[PublishedPort]] = defaultdict(list)
    for row in connection.execute(statement):
        found[row.machine_id].append(PublishedPort(row.node_port, row.machine_port, Protocol(row.protocol)))
    return {machine_id: tuple(each) for machine_id, each in found.items()}


MEANT = ("awaits", "restarts", "attempts")
"""The columns that say what the agent means to do by itself."""

WISHED = ("wish", "generation", *MEANT, "lease", "keep_s")
"""The columns that a wish changes."""


def _to_row(machine: Machine) -> dict[str, Any]:
    return row_of(Machine, machine, ("ports",)) | {"reserved_address": machine.address if machine.mac else None}


def _from_row(row: Row[Any], published: tuple[PublishedPort, ...]) -> Machine:
    return thing_of(Machine, row, ports=published)
