"""Chooses what a new machine is made from and which type of driver makes it, where the user left it open."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from garbi.base.errors import InvalidField, UnknownImage
from garbi.hyper_api.vocabulary import ImageState, ImageType, NodeFailurePolicy
from garbi.iaas.model.image import Image
from garbi.iaas.model.machine import MachineSpec
from garbi.iaas.model.node import Amounts, DriverState, Node
from garbi.iaas.store import images

ANY_IMAGE = "any-image"
"""The ability of drivers that take any name for an image; they are asked for by their own name only."""

DISKS = (ImageType.QCOW2, ImageType.RAW)
MADE_FOR = {
    **dict.fromkeys(DISKS, "libvirt"),
    **dict.fromkeys((ImageType.DOCKER, ImageType.ROOTFS), "docker"),
}
"""The type that is taken first for an image, where nodes have several."""

MIB = 2**20


@dataclass(frozen=True, slots=True)
class Choice:
    """The type, the digest of the content (empty when there is none and the driver needs none), and what it takes of a node."""

    type: str
    sha256: str
    amounts: Amounts
    on_node_failure: NodeFailurePolicy


def choose(
    connection: Connection, spec: MachineSpec, nodes: Sequence[Node], policies: Mapping[str, NodeFailurePolicy]
) -> Choice:
    """From a specification to a type and a content that it can use; `policies` are the defaults of the cloud, by types.

    Raises UnknownImage when there is no such image or its content is not here yet, InvalidField when the type cannot use it.
    """
    drivers = [driver for node in nodes for driver in node.drivers]
    image = images.find(connection, spec.image)
    if spec.type is not None and any(_takes_any(each) for each in drivers if each.name == spec.type):
        sha256 = image.sha256 if image is not None and image.state is ImageState.ACTIVE else ""
        policy = spec.on_node_failure or policies.get(spec.type, NodeFailurePolicy.RECREATE)
        return Choice(spec.type, sha256, Amounts(spec.mem, spec.cpus, spec.disk), policy)
    if image is None:
        raise _unknown(connection, spec.image)
    if image.state is not ImageState.ACTIVE:
        words = f": {image.reason}" if image.reason else ""
        raise UnknownImage("image", f"image {image.name} is {image.state}, its content is not here{words}")
    type_name = _checked(spec.type, image, drivers) if spec.type is not None else _type_for(image, drivers)
    suits = NodeFailurePolicy.STAY if image.type in DISKS else NodeFailurePolicy.RECREATE
    policy = policies.get(type_name, suits)
    amounts = Amounts(spec.mem, spec.cpus, _disk(spec, image))
    return Choice(type_name, image.sha256, amounts, spec.on_node_failure or policy)


def _takes_any(driver: DriverState) -> bool:
    return ANY_IMAGE in driver.abilities


def _unknown(connection: Connection, name: str) -> UnknownImage:
    known = images.names(connection)
    shown = ", ".join(known) if known else "none yet"
    return UnknownImage("image", f"no image is called {name[:80]!r}; there are: {shown}", allowed=known)


def _checked(type_name: str, image: Image, drivers: Iterable[DriverState]) -> str:
    """The type asked for, unless every node that knows it says that it takes no such image."""
    known = [driver for driver in drivers if driver.name == type_name and driver.image_types]
    usable = sorted({taken for driver in known for taken in driver.image_types})
    if known and image.type not in usable:
        words = f"image {image.name} is of type {image.type}; {type_name} runs {', '.join(usable)}"
        raise InvalidField("type", words, allowed=usable)
    return type_name


def _type_for(image: Image, drivers: Sequence[DriverState]) -> str:
    """The type made for this format if nodes can run it, another that takes it if they can run that, else the first again."""
    taking = [each for each in drivers if image.type in each.image_types and not _takes_any(each)]
    usable = {each.name for each in taking if each.available}
    first = MADE_FOR[image.type]
    return first if first in usable or not usable else min(usable)


def _disk(spec: MachineSpec, image: Image) -> int:
    """A virtual disk may grow to what the image unfolds to; a container writes beside its image."""
    needed = -(-image.virtual_size // MIB) if image.type in DISKS else 0
    if 0 < spec.disk < needed:
        rule = f"0 or at least {needed}"
        raise InvalidField("disk", f"disk {spec.disk} is less than the {needed} MiB that {image.name} unfolds to", rule)
    return spec.disk or needed
