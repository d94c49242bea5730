"""What a new machine may be: the same rules for REST, for the command line and for programs."""

from __future__ import annotations

from garbi.base.names import check_name
from garbi.hyper.model.machine import MachineSpec
from garbi.hyper_api.validation import (
    KINDS,
    MAX_CPUS,
    MAX_MEM_MIB,
    check_first_wish,
    check_image_reference,
    check_kinds,
    check_labels,
    check_number,
    check_ports,
)


def check_spec(spec: MachineSpec) -> None:
    """Raise InvalidField, which names the field and what is allowed, when no host could make such a machine."""
    check_kinds(spec, KINDS)
    for field, value in (("id", spec.id), ("name", spec.name)):
        if value is not None:
            check_name(field, value)
    check_image_reference(spec.image)
    check_number("mem", spec.mem, MAX_MEM_MIB)
    check_number("cpus", spec.cpus, MAX_CPUS)
    check_ports(spec.ports)
    check_labels(spec.labels)
    check_first_wish(spec.wish)
