"""Machines as they travel: what a host is asked for and what it answers. The controller's are made from these.

Each field is named, bounded and explained here, and nowhere else.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any

from annotated_types import Ge, Le, MaxLen

from garbi.base.bounds import FirstWrong, Note, Rule, answered, asked
from garbi.base.names import IMAGE_NAME, IMAGE_RULE, NAME, RULE
from garbi.hyper_api.vocabulary import NodeFailurePolicy, PublishedPort, RestartPolicy, State, Wish

MAX_MEM_MIB = 2**24
MAX_CPUS = 4096
MAX_PORTS = 128
MAX_LABELS = 64
MAX_LABEL_LENGTH = 256
MAX_IMAGE_LENGTH = 255


def _names_an_image(text: str) -> bool:
    return 0 < len(text) <= MAX_IMAGE_LENGTH and not any(unicodedata.category(char)[0] in "CZ" for char in text)


def _are_labels(labels: Mapping[str, str]) -> bool:
    return len(labels) <= MAX_LABELS and all(
        (key + value).isprintable() and 0 < len(key) <= MAX_LABEL_LENGTH and len(value) <= MAX_LABEL_LENGTH
        for key, value in labels.items()
    )


def _are_distinct(ports: Sequence[PublishedPort]) -> bool:
    return len({(port.protocol, port.node_port) for port in ports}) == len(ports)


Name = Annotated[str, Rule(NAME.match, RULE, {"pattern": r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"})]
ImageName = Annotated[
    str,
    Rule(
        lambda text: IMAGE_NAME.match(text) and ".." not in text,
        IMAGE_RULE,
        {"pattern": r"^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$"},
    ),
]
ImageReference = Annotated[
    str,
    Rule(
        _names_an_image,
        f"1 to {MAX_IMAGE_LENGTH} characters without spaces and control characters",
        {"pattern": r"^[!-~]+$", "minLength": 1, "maxLength": MAX_IMAGE_LENGTH},
    ),
]
Labels = Annotated[
    Mapping[str, str],
    Rule(
        _are_labels,
        f"at most {MAX_LABELS} labels, whose key and value have at most {MAX_LABEL_LENGTH} printable characters",
        {
            "maxProperties": MAX_LABELS,
            "propertyNames": {"pattern": r"^[!-~]+$", "maxLength": MAX_LABEL_LENGTH},
            "additionalProperties": {"type": "string", "pattern": r"^[ -~]*$", "maxLength": MAX_LABEL_LENGTH},
        },
    ),
]
Ports = Annotated[
    tuple[PublishedPort, ...],
    FirstWrong(),
    MaxLen(MAX_PORTS),
    Rule(_are_distinct, "each port of the host once"),
]
FirstState = Annotated[
    Wish,
    Rule(lambda wish: wish in (Wish.RUNNING, Wish.STOPPED), "running or stopped", {"enum": ["running", "stopped"]}),
]
NextState = Annotated[
    Wish,
    Rule(
        lambda wish: wish is not Wish.REMOVED, "running, stopped or paused", {"enum": ["running", "stopped", "paused"]}
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineShape:
    """What a machine is made of, as it was asked for."""

    id: Name | None = None
    name: Name | None = None
    type: Annotated[Name | None, Note("Which driver runs it: see /hyper/drivers.")] = None
    image: Annotated[ImageReference, Note("An image of this host; where a driver may pull, a registry reference.")]
    mem: Annotated[int, Ge(1), Le(MAX_MEM_MIB), Note("MiB.")] = 256
    cpus: Annotated[int, Ge(1), Le(MAX_CPUS)] = 1
    ports: Ports = ()
    labels: Labels = field(default_factory=dict)
    full_copy: Annotated[bool, Note("Copy the whole image instead of the changes only.")] = False
    restart: Annotated[RestartPolicy, Note("When it is started again after it ended by itself.")] = (
        RestartPolicy.ON_FAILURE
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineSpec(MachineShape):
    """A machine to make. `id` and `name` are chosen, and `type` follows from the image, when they are not given."""

    __pydantic_config__ = asked(
        {"image": "tiny"},
        {
            "image": "tiny-docker",
            "id": "web",
            "mem": 256,
            "cpus": 1,
            "ports": [{"node_port": 8080, "machine_port": 80}],
            "labels": {"team": "blue"},
            "state": "running",
        },
    )

    state: Annotated[FirstState, Note("The wish.")] = Wish.RUNNING
    on_node_failure: NodeFailurePolicy | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineFacts(MachineShape):
    """What a machine is: as it was asked for, what was chosen for it, and what was observed."""

    id: str
    name: str
    type: str
    image_sha256: Annotated[str, Note("The content that it was made from.")]
    address: str | None
    state: Annotated[State, Note("What the host last observed.")]
    wish: Annotated[Wish, Note("What the user wants.")]
    reason: str
    on_node_failure: NodeFailurePolicy
    created_at: datetime
    updated_at: datetime


EXAMPLE: Mapping[str, Any] = {
    "id": "web",
    "name": "web",
    "type": "docker",
    "image": "tiny-docker",
    "image_sha256": "9b2c1f0e6d3a4b5c8d7e6f5a4b3c2d1e0f9a8b7c6d5e4f3a2b1c0d9e8f7a6b5c",
    "mem": 256,
    "cpus": 1,
    "node": "laptop",
    "ports": [{"node_port": 8080, "machine_port": 80, "protocol": "tcp"}],
    "address": "172.30.1.2",
    "labels": {"team": "blue"},
    "full_copy": False,
    "state": "running",
    "wish": "running",
    "settled": True,
    "reason": "",
    "on_node_failure": "recreate",
    "restart": "on-failure",
    "restarts": 0,
    "held": False,
    "created_at": "2026-01-02T03:04:05.678901Z",
    "updated_at": "2026-01-02T03:04:06.123456Z",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine(MachineFacts):
    """A machine of this host."""

    __pydantic_config__ = answered(EXAMPLE)

    node: Annotated[str, Note("The host.")]
    settled: Annotated[bool, Note("Whether the host has done, or given up, what the user last asked for.")]
    restarts: Annotated[int, Note("How often it was started again since it was wished to run, or ran for long.")]
    held: Annotated[bool, Note("It may not run now, and will be started when it may: the reason says why.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineChange:
    """What a machine should be."""

    __pydantic_config__ = asked({"state": "stopped"})

    state: NextState
