"""How a node is written into its row, and read from it."""

from __future__ import annotations

import math
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import Row

from garbi.base.clock import from_wire, to_wire
from garbi.iaas.model.node import Amounts, DriverState, Failure, Load, Node, NodeState, Overcommit, Ssh
from garbi.iaas.model.power import Power
from garbi.iaas.store.schema import AMOUNTS

PLAIN = (
    "name", "host", "port", "provision", "state", "reason", "draining", "architecture", "cluster_id", "boot_id", "epoch",
    "lease", "operation", "failure", "touched", "witness", "live_restore", "unwritable",
)  # fmt: skip


def to_row(node: Node) -> dict[str, Any]:
    """Every column of a node."""
    row = {name: getattr(node, name) for name in PLAIN}
    row |= {"overcommit_" + key: getattr(node.overcommit, key) for key in AMOUNTS}
    row |= {"reserved_" + key: getattr(node.reserved, key) for key in AMOUNTS}
    row |= {"ssh": asdict(node.ssh), "labels": dict(node.labels), "power": power_value(node.power)}
    row |= {"created_at": to_wire(node.created_at), "updated_at": to_wire(node.updated_at)}
    return row | facts_row(node)


def power_value(power: Power | None) -> dict[str, Any] | None:
    """How the host of a node is switched off, as the row has it."""
    return None if power is None else {**asdict(power), "secrets": [*power.secrets]}


def facts_row(node: Node) -> dict[str, Any]:
    """The columns of what a node says of itself, with the limits that follow from it."""
    row: dict[str, Any] = {}
    for key in AMOUNTS:
        limit = getattr(node.limit, key)
        bound = max(limit, getattr(node.reserved, key))
        row |= {"has_" + key: getattr(node.has, key), "limit_" + key: limit, "bound_" + key: bound}
    return row | {
        **load_row(node.load),
        "architecture": node.architecture,
        "drivers": [asdict(driver) for driver in node.drivers],
        "versions": dict(node.versions),
        "cluster_id": node.cluster_id,
        "boot_id": node.boot_id,
        "host_mem": node.host_mem,
        "seen_at": moment_text(node.seen_at),
        "leaving_at": moment_text(node.leaving_at),
    }


def load_row(load: Load) -> dict[str, Any]:
    """The columns of the load; 0 where a node reports what is no number."""
    load1 = load.load1 if math.isfinite(load.load1) else 0.0
    return {"load1": load1, "mem_used": min(max(load.mem_used, 0), 2**62)}


def from_row(row: Row[Any]) -> Node:
    """The node of a row."""
    return Node(
        name=row.name,
        host=row.host,
        port=row.port,
        provision=row.provision,
        ssh=Ssh(**row.ssh),
        labels=dict(row.labels),
        overcommit=Overcommit(row.overcommit_mem, row.overcommit_cpus, row.overcommit_disk),
        state=NodeState(row.state),
        reason=row.reason,
        draining=row.draining,
        has=Amounts(row.has_mem, row.has_cpus, row.has_disk),
        limit=Amounts(row.limit_mem, row.limit_cpus, row.limit_disk),
        reserved=Amounts(row.reserved_mem, row.reserved_cpus, row.reserved_disk),
        load=Load(row.load1, row.mem_used),
        architecture=row.architecture,
        drivers=tuple(_driver(each) for each in row.drivers),
        versions=dict(row.versions),
        cluster_id=row.cluster_id,
        boot_id=row.boot_id,
        epoch=row.epoch,
        operation=row.operation,
        seen_at=moment_of(row.seen_at),
        created_at=from_wire(row.created_at),
        updated_at=from_wire(row.updated_at),
        lease=row.lease,
        failure=Failure(row.failure),
        touched=row.touched,
        witness=row.witness,
        live_restore=row.live_restore,
        host_mem=row.host_mem,
        power=None if row.power is None else Power(**row.power | {"secrets": tuple(row.power["secrets"])}),
        unwritable=row.unwritable,
        leaving_at=moment_of(row.leaving_at),
    )


def moment_text(moment: datetime | None) -> str | None:
    """A moment as text, if there is one."""
    return None if moment is None else to_wire(moment)


def moment_of(text: str | None) -> datetime | None:
    """The moment of a text, if there is one."""
    return None if text is None else from_wire(text)


def _driver(values: dict[str, Any]) -> DriverState:
    return DriverState(
        **values | {"abilities": tuple(values["abilities"]), "image_types": tuple(values["image_types"])}
    )
