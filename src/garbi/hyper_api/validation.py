"""What the fields of a new machine may be: the same rules on a host and in a cloud."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

from garbi.base.errors import InvalidField
from garbi.hyper_api.vocabulary import NodeFailurePolicy, Protocol, PublishedPort, RestartPolicy, Wish

MAX_MEM_MIB = 2**24
MAX_CPUS = 4096
MAX_PORTS = 128
MAX_LABELS = 64
MAX_LABEL_LENGTH = 256
MAX_IMAGE_LENGTH = 255
HIGHEST_PORT = 65535

KINDS: Mapping[str, Any] = {
    **{"image": str, "type": str | None, "id": str | None, "name": str | None},
    **{"full_copy": bool, "ports": tuple, "labels": Mapping, "wish": Wish},
    **{"restart": RestartPolicy, "on_node_failure": NodeFailurePolicy | None},
}
"""What a program may put into each field; a number that is taken for a text would be found out too late."""


def check_kinds(spec: object, kinds: Mapping[str, Any]) -> None:
    """Raise InvalidField when a field of `spec` is of another kind than `kinds` says."""
    for field, kind in kinds.items():
        value = getattr(spec, field)
        if not isinstance(value, kind):
            shown = "state" if field == "wish" else field
            raise InvalidField(shown, f"{shown} cannot be of the kind {type(value).__name__!r}")


def check_image_reference(image: str) -> None:
    """Raise InvalidField when this cannot be what names an image."""
    if not 0 < len(image) <= MAX_IMAGE_LENGTH or any(unicodedata.category(char)[0] in "CZ" for char in image):
        rule = f"1 to {MAX_IMAGE_LENGTH} characters without spaces and control characters"
        raise InvalidField("image", f"image is not the name of an image: it takes {rule}", allowed=rule)


def check_number(field: str, value: int, most: int, least: int = 1) -> None:
    """Raise InvalidField when `value` is no whole number from `least` to `most`."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        rule = f"{least} to {most}"
        raise InvalidField(field, f"{field} {value!r} is not allowed: it takes {rule}", allowed=rule)


def check_ports(ports: Iterable[PublishedPort]) -> None:
    """Raise InvalidField when these ports cannot all be published together."""
    wanted = [*ports]
    if len(wanted) > MAX_PORTS:
        raise InvalidField(
            "ports", f"{len(wanted)} ports are too many: at most {MAX_PORTS}", allowed=f"at most {MAX_PORTS}"
        )
    seen = set()
    for port in wanted:
        if not (isinstance(port, PublishedPort) and isinstance(port.protocol, Protocol)):
            raise InvalidField("ports", "ports take published ports", allowed="published ports")
        for field, number in (("node_port", port.node_port), ("machine_port", port.machine_port)):
            if not isinstance(number, int) or not 1 <= number <= HIGHEST_PORT:
                rule = f"1 to {HIGHEST_PORT}"
                raise InvalidField("ports", f"{field} {number!r} is not allowed: it takes {rule}", allowed=rule)
        if (port.protocol, port.node_port) in seen:
            raise InvalidField("ports", f"port {port.node_port}/{port.protocol} is asked for twice")
        seen.add((port.protocol, port.node_port))


def check_labels(labels: Mapping[str, str], field: str = "labels", most: int = MAX_LABELS) -> None:
    """Raise InvalidField when these labels are more than `most`, or one is too long or cannot be printed."""
    if len(labels) > most:
        raise InvalidField(field, f"{len(labels)} labels are too many", allowed=f"at most {most}")
    rule = f"1 to {MAX_LABEL_LENGTH} printable characters"
    for key, value in labels.items():
        printable = isinstance(key, str) and isinstance(value, str) and (key + value).isprintable()
        if not printable or not (0 < len(key) <= MAX_LABEL_LENGTH and len(value) <= MAX_LABEL_LENGTH):
            raise InvalidField(
                field, f"label {str(key)[:80]!r} is not allowed: key and value take {rule}", allowed=rule
            )


def check_first_wish(wish: Wish) -> None:
    """Raise InvalidField when a new machine cannot be wished so."""
    if wish not in (Wish.RUNNING, Wish.STOPPED):
        raise InvalidField(
            "state", f"a new machine can be wished running or stopped, not {wish}", ["running", "stopped"]
        )
