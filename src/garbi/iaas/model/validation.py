"""What a new machine and a new node may be: the same rules for REST, for the command line and for programs."""

from __future__ import annotations

import math
from collections.abc import Mapping

from garbi.base.errors import InvalidField
from garbi.base.names import check_name
from garbi.hyper_api.validation import (
    check_kinds,
    check_labels,
    check_number,
)
from garbi.hyper_api.vocabulary import HIGHEST_PORT
from garbi.iaas.model.machine import MachineSpec
from garbi.iaas.model.node import NodeSpec, Overcommit

MAX_OVERCOMMIT = 1000.0
MAX_HOST_LENGTH = 253

NODE_KINDS = {"name": str, "host": str, "provision": bool, "labels": Mapping, "live_restore": bool}


def check_spec(spec: MachineSpec) -> None:
    """Raise InvalidField when fields that are each allowed are not together."""
    if spec.apart is not None and spec.apart not in spec.labels:
        rule = "the key of one of the machine's labels"
        raise InvalidField("apart", f"apart {spec.apart[:80]!r} is not a label of the machine: it takes {rule}", rule)
    if spec.ports and spec.node is None:
        raise InvalidField("ports", "ports are published on a node: name it in the field 'node'", allowed="with node")


def check_node(spec: NodeSpec) -> None:
    """Raise InvalidField, which names the field and what is allowed, when there can be no such node."""
    check_kinds(spec, NODE_KINDS)
    check_name("name", spec.name)
    _check_host(spec.host)
    check_number("port", spec.port, HIGHEST_PORT)
    check_number("ssh", spec.ssh.port, HIGHEST_PORT)
    check_labels(spec.labels)
    _check_overcommit(spec.overcommit)
    if spec.live_restore and (spec.witness or not spec.provision):
        rule = "true only of a node that is provisioned and carries machines"
        raise InvalidField("live_restore", f"live_restore is {rule}", allowed=rule)


def _check_host(host: str) -> None:
    odd = not host or host.startswith("-") or any(not char.isprintable() or char in " /@[]?#%\\" for char in host)
    if odd or len(host) > MAX_HOST_LENGTH:
        rule = "the name or address of a host, without a port"
        raise InvalidField("host", f"host {host[:80]!r} is not allowed: it takes {rule}", allowed=rule)


def _check_overcommit(overcommit: Overcommit) -> None:
    for name in ("mem", "cpus", "disk"):
        value = getattr(overcommit, name)
        number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not number or not 0 < value <= MAX_OVERCOMMIT:
            rule = f"a number above 0, at most {MAX_OVERCOMMIT:g}"
            raise InvalidField("overcommit", f"overcommit of {name} {value!r} is not allowed: it takes {rule}", rule)
