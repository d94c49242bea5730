"""How a machine is written into its row and the rows of its ports, and read from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Row

from garbi.base.clock import from_wire, to_wire
from garbi.hyper_api.vocabulary import NodeFailurePolicy, Protocol, PublishedPort, RestartPolicy, State, Wish
from garbi.iaas.model.machine import Machine, Moving
from garbi.iaas.store.node_rows import moment_of, moment_text

ANY_ADDRESS = "0.0.0.0"  # noqa: S104 - published ports are on every address of the node

KEPT = (
    "id", "name", "type", "image", "image_sha256", "mem", "cpus", "disk", "node", "apart", "full_copy", "wish", "restart",
    "on_node_failure", "generation", "epoch", "operation", "drained",
)  # fmt: skip
FOUND = (
    "state", "reason", "refused", "address", "told_generation", "settled_generation", "moving", "moving_why",
)  # fmt: skip
"""What the loops write: what its node says, and how far it has come on its way elsewhere."""


def to_row(machine: Machine) -> dict[str, Any]:
    """Every column of a machine."""
    row = {name: getattr(machine, name) for name in KEPT} | state_row(machine)
    row |= {"labels": dict(machine.labels), "require": dict(machine.require)}
    return row | {"created_at": to_wire(machine.created_at)}


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
            found.append(_machine(row))
        if row.node_port is not None:
            port = PublishedPort(row.node_port, row.machine_port, Protocol(row.protocol))
            found[-1] = replace(found[-1], ports=(*found[-1].ports, port))
    return found


def _machine(row: Row[Any]) -> Machine:
    return Machine(
        id=row.id,
        name=row.name,
        type=row.type,
        image=row.image,
        image_sha256=row.image_sha256,
        mem=row.mem,
        cpus=row.cpus,
        disk=row.disk,
        node=row.node,
        ports=(),
        labels=dict(row.labels),
        require=dict(row.require),
        apart=row.apart,
        full_copy=row.full_copy,
        wish=Wish(row.wish),
        state=State(row.state),
        reason=row.reason,
        refused=row.refused,
        address=row.address,
        restart=RestartPolicy(row.restart),
        on_node_failure=NodeFailurePolicy(row.on_node_failure),
        generation=row.generation,
        told_generation=row.told_generation,
        settled_generation=row.settled_generation,
        epoch=row.epoch,
        operation=row.operation,
        seen_at=moment_of(row.seen_at),
        created_at=from_wire(row.created_at),
        updated_at=from_wire(row.updated_at),
        moving=Moving(row.moving),
        moving_why=row.moving_why,
        drained=None if row.drained is None else Wish(row.drained),
    )
