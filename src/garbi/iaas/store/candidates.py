"""What the scheduler has to know of all nodes, in as many queries however many nodes and machines there are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from sqlalchemy import Connection, func, select

from garbi.hyper_api.vocabulary import Protocol, PublishedPort, Wish
from garbi.iaas.model.node import Node
from garbi.iaas.store.node_rows import from_row
from garbi.iaas.store.schema import machines, nodes, ports

UP = (Wish.RUNNING, Wish.PAUSED)


def nodes_with_load(connection: Connection) -> list[tuple[Node, int]]:
    """Every node, by name, and how many machines there run or are to run."""
    up = select(machines.c.node, func.count().label("running")).where(machines.c.wish.in_(UP))
    counted = up.group_by(machines.c.node).subquery("counted")
    joined = nodes.outerjoin(counted, counted.c.node == nodes.c.name)
    rows = connection.execute(select(nodes, counted.c.running).select_from(joined).order_by(nodes.c.name))
    return [(from_row(row), row.running or 0) for row in rows]


def holders(connection: Connection, wanted: Iterable[PublishedPort]) -> dict[str, dict[tuple[Protocol, int], str]]:
    """Who has each of these ports, in words, on each node where somebody has."""
    numbers = {port.node_port for port in wanted}
    found: dict[str, dict[tuple[Protocol, int], str]] = defaultdict(dict)
    if numbers:
        for row in connection.execute(select(ports).where(ports.c.node_port.in_(numbers))):
            found[row.node][(Protocol(row.protocol), row.node_port)] = f"machine {row.machine_id}"
    return found


def label_values(connection: Connection, key: str, but: str | None = None) -> dict[str, frozenset[str]]:
    """The values that machines on each node have of a label; the machine whose id is `but` does not count."""
    found: dict[str, set[str]] = defaultdict(set)
    there = select(machines.c.id, machines.c.node, machines.c.labels).where(machines.c.node.is_not(None))
    for row in connection.execute(there):
        if key in row.labels and row.id != but:
            found[row.node].add(row.labels[key])
    return {name: frozenset(values) for name, values in found.items()}
