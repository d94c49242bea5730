"""Machines of the cloud as they travel: those of a host, and what only a cloud asks for and knows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Annotated

from annotated_types import Ge, Le, MaxLen

from garbi.base.bounds import Note, Rule, answered, asked
from garbi.hyper_api import machines as host
from garbi.hyper_api.machines import MAX_LABEL_LENGTH, MAX_LABELS, Labels, MachineChange, Name

__all__ = ["Machine", "MachineChange", "MachineFacts", "MachineSpec", "Strategy"]

MAX_DISK_MIB = 2**31
RESERVED_LABELS = 4
RESERVED_PREFIX = "garbi."
OPERATION = "4f1c0a9b8e7d6c5b4a39281706f5e4d3"


class Strategy(StrEnum):
    """What decides among the nodes that fit."""

    SPREAD = "spread"
    PACK = "pack"
    LOAD = "load"


def _are_own(labels: Mapping[str, str]) -> bool:
    """A machine's labels travel to its node, together with those that mark it as the controller's."""
    most = MAX_LABELS - RESERVED_LABELS
    return len(labels) <= most and not any(key.startswith(RESERVED_PREFIX) for key in labels)


OwnLabels = Annotated[
    Labels,
    Rule(_are_own, f"at most {MAX_LABELS - RESERVED_LABELS} labels, whose key does not begin with {RESERVED_PREFIX}"),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineSpec(host.MachineSpec):
    """A machine to make. `id`, `name` and `node` are chosen, `type` follows from the image, when they are not given."""

    __pydantic_config__ = asked(
        {"image": "tiny"},
        {
            "image": "tiny-docker",
            "id": "web",
            "mem": 256,
            "cpus": 1,
            "node": "n1",
            "ports": [{"node_port": 8080, "machine_port": 80}],
            "labels": {"team": "blue"},
        },
        {"image": "tiny", "require": {"rack": "a"}, "apart": "team", "labels": {"team": "red"}, "strategy": "pack"},
    )

    labels: OwnLabels = field(default_factory=dict)
    disk: Annotated[int, Ge(0), Le(MAX_DISK_MIB), Note("MiB that are reserved; 0: what the image unfolds to.")] = 0
    node: Annotated[Name | None, Note("The node that it must run on; to publish ports, it must be given.")] = None
    require: Annotated[Labels, Note("Labels that its node must have.")] = field(default_factory=dict)
    apart: Annotated[
        Annotated[str, MaxLen(MAX_LABEL_LENGTH)] | None,
        Note("Key of a label: no two machines with the same value of it share a node (anti-affinity)."),
    ] = None
    strategy: Annotated[Strategy | None, Note("What decides among the nodes that fit.")] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineFacts(host.MachineFacts):
    """What a machine of the cloud is: as it was asked for, where it was put, and what its node says of it."""

    disk: Annotated[int, Note("MiB that are reserved.")]
    node: str | None
    require: Mapping[str, str]
    apart: str | None
    epoch: Annotated[int, Note("The number of its assignment to a node; grows when it is moved.")]
    operation: Annotated[str | None, Note("The last one: see /iaas/operations/{id}.")]
    seen_at: Annotated[datetime | None, Note("When its node last spoke of it.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine(MachineFacts):
    """A machine of the cloud."""

    __pydantic_config__ = answered(
        {
            **{key: value for key, value in host.EXAMPLE.items() if key not in ("restarts", "held")},
            "disk": 0,
            "node": "n1",
            "require": {},
            "apart": "team",
            "epoch": 1,
            "operation": OPERATION,
            "seen_at": host.EXAMPLE["updated_at"],
        }
    )

    settled: Annotated[bool, Note("Whether its node has done, or given up, what the user last asked for.")]
