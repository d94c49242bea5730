"""What a node is asked for when a machine is to be made there: the order, and what is the same for each repetition of it."""

from __future__ import annotations

from typing import Any

from garbi.base.documents import document_of
from garbi.hyper_api.machines import MachineSpec
from garbi.hyper_api.vocabulary import Wish
from garbi.iaas.model.machine import Machine
from garbi.iaas.model.marks import marks


def order_of(machine: Machine, image_name: str, controller_id: str) -> dict[str, Any]:
    """What makes a machine on its node, from the image that the node has under that name."""
    return document_of(MachineSpec, machine) | {
        "image": image_name or machine.image,
        "labels": {**machine.labels, **marks(controller_id, machine.epoch)},
        "state": Wish.STOPPED if machine.wish is Wish.STOPPED else Wish.RUNNING,
    }


def key_of(machine: Machine) -> str:
    """The same for each repetition of an order, and for no other: an id may be that of a later machine, too."""
    return f"{machine.id}.{machine.epoch}.{machine.created_at:%Y%m%dT%H%M%S.%f}"
