"""What the scheduler has to know of all nodes, in as many queries however many nodes and machines there are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

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


def ports_taken(connection: Connection) -> dict[str, dict[tuple[Protocol, int], str]]:
    """Who has each published port of each node, in words."""
    found: dict[str, dict[tuple[Protocol, int], str]] = defaultdict(dict)
    for row in connection.execute(select(ports)):
        found[row.node][(Protocol(row.protocol), row.node_port)] = f"machine {row.machine_id}"
    return found


def placed(connection: Connection) -> list[tuple[str, str, Mapping[str, str], str | None]]:
    """Every machine that has labels: its id, its node, the labels, and the key by which it is to be apart from others."""
    statement = select(machines.c.id, machines.c.node, machines.c.labels, machines.c.apart)
    rows = connection.execute(statement.where(machines.c.node.is_not(None)).order_by(machines.c.seq))
    return [(row.id, row.node, row.labels, row.apart) for row in rows if row.labels]


def nodes_to_avoid(
    connection: Connection, labels: Mapping[str, str], apart: str | None, but: str | None = None
) -> dict[str, tuple[str, str]]:
    """The nodes where a machine is that may not be beside one with these labels, and the label that both have.

    Either of the two may have asked for it: the new one by `apart`, the key of one of its labels, or the one that is there. The
    machine whose id is `but` does not count.
    """
    statement = select(machines.c.id, machines.c.node, machines.c.labels, machines.c.apart)
    if apart is None:
        statement = statement.where(machines.c.apart.is_not(None))
    found: dict[str, tuple[str, str]] = {}
    for row in connection.execute(statement.where(machines.c.node.is_not(None)).order_by(machines.c.seq)):
        for key in filter(None, (apart, row.apart)):
            if row.id != but and key in labels and row.labels.get(key) == labels[key]:
                found.setdefault(row.node, (key, labels[key]))
    return found
