"""What a new machine may be: the same rules for REST, for the command line and for programs."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Any

from garbi.base.errors import InvalidField
from garbi.base.names import check_name
from garbi.hyper.model.machine import MachineSpec, NodeFailurePolicy, Protocol, PublishedPort, RestartPolicy, Wish

MAX_MEM_MIB = 2**24
MAX_CPUS = 4096
MAX_PORTS = 128
MAX_LABELS = 64
MAX_LABEL_LENGTH = 256
MAX_IMAGE_LENGTH = 255

KINDS: Mapping[str, Any] = {
    **{"image": str, "type": str | None, "id": str | None, "name": str | None},
    **{"full_copy": bool, "ports": tuple, "labels": Mapping, "wish": Wish},
    **{"restart": RestartPolicy, "on_node_failure": NodeFailurePolicy | None},
}
"""What a program may put into each field; a number that is taken for a text would be found out too late."""


def check_spec(spec: MachineSpec) -> None:
    """Raise InvalidField, which names the field and what is allowed, when no host could make such a machine."""
    _check_kinds(spec)
    for field, value in (("id", spec.id), ("name", spec.name)):
        if value is not None:
            check_name(field, value)
    _check_image_reference(spec.image)
    _check_number("mem", spec.mem, MAX_MEM_MIB)
    _check_number("cpus", spec.cpus, MAX_CPUS)
    _check_ports(spec.ports)
    _check_labels(spec.labels)
    if spec.wish not in (Wish.RUNNING, Wish.STOPPED):
        raise InvalidField(
            "state", f"a new machine can be wished running or stopped, not {spec.wish}", ["running", "stopped"]
        )


def _check_kinds(spec: MachineSpec) -> None:
    for field, kind in KINDS.items():
        value = getattr(spec, field)
        if not isinstance(value, kind):
            shown = "state" if field == "wish" else field
            raise InvalidField(shown, f"{shown} cannot be of the kind {type(value).__name__!r}")


def _check_image_reference(image: str) -> None:
    if not 0 < len(image) <= MAX_IMAGE_LENGTH or any(unicodedata.category(char)[0] in "CZ" for char in image):
        rule = f"1 to {MAX_IMAGE_LENGTH} characters without spaces and control characters"
        raise InvalidField("image", f"image is not the name of an image: it takes {rule}", allowed=rule)


def _check_number(field: str, value: int, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise InvalidField(field, f"{field} {value!r} is not allowed: it takes 1 to {most}", allowed=f"1 to {most}")


def _check_ports(ports: tuple[PublishedPort, ...]) -> None:
    if len(ports) > MAX_PORTS:
        raise InvalidField(
            "ports", f"{len(ports)} ports are too many: at most {MAX_PORTS}", allowed=f"at most {MAX_PORTS}"
        )
    seen = set()
    for port in ports:
        if not (isinstance(port, PublishedPort) and isinstance(port.protocol, Protocol)):
            raise InvalidField("ports", "ports take published ports", allowed="published ports")
        for field, number in (("node_port", port.node_port), ("machine_port", port.machine_port)):
            if not isinstance(number, int) or not 1 <= number <= 65535:
                raise InvalidField(
                    "ports", f"{field} {number!r} is not allowed: it takes 1 to 65535", allowed="1 to 65535"
                )
        if (port.protocol, port.node_port) in seen:
            raise InvalidField("ports", f"port {port.node_port}/{port.protocol} is asked for twice")
        seen.add((port.protocol, port.node_port))


def _check_labels(labels: Mapping[str, str]) -> None:
    if len(labels) > MAX_LABELS:
        raise InvalidField("labels", f"{len(labels)} labels are too many", allowed=f"at most {MAX_LABELS}")
    rule = f"1 to {MAX_LABEL_LENGTH} printable characters"
    for key, value in labels.items():
        printable = isinstance(key, str) and isinstance(value, str) and (key + value).isprintable()
        if not printable or not (0 < len(key) <= MAX_LABEL_LENGTH and len(value) <= MAX_LABEL_LENGTH):
            raise InvalidField(
                "labels", f"label {str(key)[:80]!r} is not allowed: key and value take {rule}", allowed=rule
            )
