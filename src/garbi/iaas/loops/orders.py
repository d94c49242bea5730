"""What a node is asked for when a machine is to be made there: the order, and what is the same for each repetition of it."""

from __future__ import annotations

from typing import Any

from garbi.hyper_api.vocabulary import Wish
from garbi.iaas.model.machine import Machine
from garbi.iaas.model.marks import marks


def order_of(machine: Machine, image_name: str, controller_id: str) -> dict[str, Any]:
    """What makes a machine on its node, from the image that the node has under that name."""
    return {
        "image": image_name or machine.image,
        "type": machine.type,
        "id": machine.id,
        "name": machine.name,
        "mem": machine.mem,
        "cpus": machine.cpus,
        "ports": [
            {"node_port": port.node_port, "machine_port": port.machine_port, "protocol": port.protocol.value}
            for port in machine.ports
        ],
        "labels": {**machine.labels, **marks(controller_id, machine.epoch)},
        "full_copy": machine.full_copy,
        "state": "stopped" if machine.wish is Wish.STOPPED else "running",
        "restart": machine.restart.value,
        "on_node_failure": machine.on_node_failure.value,
    }


def key_of(machine: Machine) -> str:
    """The same for each repetition of an order, and for no other: an id may be that of a later machine, too."""
    return f"{machine.id}.{machine.epoch}.{machine.created_at:%Y%m%dT%H%M%S.%f}"
