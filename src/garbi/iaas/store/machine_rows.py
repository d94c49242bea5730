"""How a machine is written into its row and the rows of its ports, and read from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Row

from garbi.base.clock import to_wire
from garbi.hyper_api.vocabulary import Protocol, PublishedPort
from garbi.iaas.model.machine import Machine
from garbi.iaas.store.node_rows import moment_text
from garbi.storage.rows import row_of, thing_of

ANY_ADDRESS = "0.0.0.0"  # noqa: S104 - published ports are on every address of the node

FOUND = (
    "state", "reason", "refused", "address", "told_generation", "settled_generation", "moving", "moving_why",
)  # fmt: skip
"""What the loops write: what its node says, and how far it has come on its way elsewhere."""


def to_row(machine: Machine) -> dict[str, Any]:
    """Every column of a machine."""
    return row_of(Machine, machine, ("ports",))


def state_row(machine: Machine) -> dict[str, Any]:
    """The columns of what was found out of a machine."""
    row = {name: getattr(machine, name) for name in FOUND}
    return row | {"seen_at": moment_text(machine.seen_at), "updated_at": to_wire(machine.updated_at)}


def port_rows(machine: Machine) -> list[dict[str, Any]]:
    """The rows of its published ports."""
    return [
        {
            "machine_id": machine.id,
            "node": machine.node,
            "protocol": port.protocol,
            "address": ANY_ADDRESS,
            "node_port": port.node_port,
            "machine_port": port.machine_port,
        }
        for port in machine.ports
    ]


def from_rows(rows: Sequence[Row[Any]]) -> list[Machine]:
    """The machines of rows in which each is repeated for every port that it has, one after the other."""
    found: list[Machine] = []
    for row in rows:
        if not found or found[-1].id != row.id:
            found.append(thing_of(Machine, row, ports=()))
        if row.node_port is not None:
            port = PublishedPort(row.node_port, row.machine_port, Protocol(row.protocol))
            found[-1] = replace(found[-1], ports=(*found[-1].ports, port))
    return found
