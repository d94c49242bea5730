"""What must hold among the rows, whatever happened: the part of the audit that needs no node."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import Connection, and_, func, or_, select

from garbi.hyper_api.vocabulary import State, Wish
from garbi.iaas.model.event import Subject
from garbi.iaas.model.operation import OperationKind, OperationState
from garbi.iaas.store.events import Kind
from garbi.iaas.store.schema import AMOUNTS, events, images, machines, nodes, operations, ports

UNITS = {"mem": "MiB of memory", "cpus": "processors", "disk": "MiB of disk"}
OF_MACHINES = (OperationKind.MACHINE_ADD, OperationKind.MACHINE_WISH, OperationKind.MACHINE_REMOVE)


@dataclass(frozen=True, slots=True)
class Finding:
    """An invariant of DESIGN.md that the rows break: which, about what, and how it shows."""

    invariant: str
    subject: str
    detail: str


def findings(connection: Connection) -> list[Finding]:
    """Everything that does not hold; none in a healthy database. One read transaction, a few queries."""
    return [
        *port_findings(connection),
        *reservation_findings(connection),
        *visibility_findings(connection),
        *operation_findings(connection),
        *image_findings(connection),
    ]


def port_findings(connection: Connection) -> Iterator[Finding]:
    """I2: every port has one owner, which is a machine of that node."""
    owned = ports.outerjoin(machines, machines.c.id == ports.c.machine_id)
    astray = or_(machines.c.id.is_(None), machines.c.node.is_(None), machines.c.node != ports.c.node)
    statement = select(ports, machines.c.node.label("owner_node")).select_from(owned).where(astray)
    for row in connection.execute(statement.order_by(ports.c.node, ports.c.node_port)):
        where = "on no node" if row.owner_node is None else f"on node {row.owner_node}"
        detail = f"port {row.node_port}/{row.protocol} belongs to machine {row.machine_id}, which is {where}"
        yield Finding("I2", f"node {row.node}", detail)
    key = (ports.c.node, ports.c.protocol, ports.c.node_port)
    for row in connection.execute(select(*key).group_by(*key).having(func.count() > 1)):
        yield Finding("I2", f"node {row.node}", f"port {row.node_port}/{row.protocol} belongs to several machines")


def reservation_findings(connection: Connection) -> Iterator[Finding]:
    """I3: what a node has promised is what its machines were promised, and no more than may be."""
    sums = [func.coalesce(func.sum(machines.c[name]), 0).label("sum_" + name) for name in AMOUNTS]
    joined = nodes.outerjoin(machines, machines.c.node == nodes.c.name)
    account = [nodes.c[prefix + name] for prefix in ("reserved_", "limit_") for name in AMOUNTS]
    statement = select(nodes.c.name, *account, *sums).select_from(joined).group_by(nodes.c.name, *account)
    for row in connection.execute(statement.order_by(nodes.c.name)).mappings():
        for name in AMOUNTS:
            reserved, limit, total = row["reserved_" + name], row["limit_" + name], int(row["sum_" + name])
            if reserved != total:
                detail = f"{reserved} {UNITS[name]} are reserved, its machines have {total}"
                yield Finding("I3", f"node {row['name']}", detail)
            if reserved > limit:
                detail = f"{reserved} {UNITS[name]} are reserved, but the host has shrunk: its limit is {limit}"
                yield Finding("I3", f"node {row['name']}", detail)


def visibility_findings(connection: Connection) -> Iterator[Finding]:
    """I4: every machine that was accepted is here or was removed; one that is not as it is wished, for good, says why."""
    lives = (events.c.subject == Subject.MACHINE) & events.c.kind.in_((Kind.CREATED, Kind.REMOVED))
    newest = select(func.max(events.c.seq)).where(lives).group_by(events.c.id)
    created = select(events.c.id).where(events.c.seq.in_(newest), events.c.kind == Kind.CREATED)
    lost = created.where(events.c.id.not_in(select(machines.c.id))).order_by(events.c.id)
    for machine_id in connection.execute(lost).scalars():
        yield Finding("I4", f"machine {machine_id}", "it was created, and is neither here nor removed")
    silent = machines.c.state.in_((State.FAILED, State.UNKNOWN)) & (machines.c.reason == "")
    for row in connection.execute(select(machines.c.id, machines.c.state).where(silent).order_by(machines.c.seq)):
        yield Finding("I4", f"machine {row.id}", f"it is {row.state}, and says nothing of why")
    settled = (machines.c.settled_generation == machines.c.generation) & (machines.c.reason == "")
    otherwise = or_(machines.c.wish == Wish.REMOVED, machines.c.wish != machines.c.state)
    rest = settled & otherwise & machines.c.state.not_in((State.FAILED, State.UNKNOWN))
    wanted = select(machines.c.id, machines.c.state, machines.c.wish).where(rest)
    for machine_id, state, wish in connection.execute(wanted.order_by(machines.c.seq)):
        yield Finding("I4", f"machine {machine_id}", f"it is {state} and to be {wish}, and says nothing of why")


def operation_findings(connection: Connection) -> Iterator[Finding]:
    """I7: no operation goes on for a machine that is gone, or that is in another one."""
    joined = operations.outerjoin(machines, machines.c.id == operations.c.target)
    lost = and_(
        operations.c.state == OperationState.RUNNING,
        operations.c.kind.in_(OF_MACHINES),
        or_(machines.c.id.is_(None), machines.c.operation.is_(None), machines.c.operation != operations.c.id),
    )
    found = select(operations, machines.c.id.label("machine_id")).select_from(joined).where(lost)
    for row in connection.execute(found.order_by(operations.c.seq)):
        why = "is gone" if row.machine_id is None else "is in another operation"
        yield Finding("I7", f"operation {row.id}", f"{row.kind} is running, but machine {row.target} {why}")


def image_findings(connection: Connection) -> Iterator[Finding]:
    """I10: the content that a machine was made from is still an image."""
    joined = machines.outerjoin(images, images.c.sha256 == machines.c.image_sha256)
    lost = (machines.c.image_sha256 != "") & images.c.name.is_(None)
    for row in connection.execute(select(machines.c.id, machines.c.image).select_from(joined).where(lost)):
        yield Finding("I10", f"machine {row.id}", f"its image {row.image} is gone")
