"""Nodes of the cloud as they travel: the hosts, what they have, and how they are reached and switched off."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Annotated

from garbi.base.bounds import Note, answered
from garbi.hyper_api.machines import EXAMPLE
from garbi.iaas_api.machines import OPERATION


class NodeState(StrEnum):
    """What is known of a node; only `ready` takes new machines."""

    ADDING = "adding"
    READY = "ready"
    DRAINING = "draining"
    UNREACHABLE = "unreachable"
    UNAVAILABLE = "unavailable"
    FAILED = "failed"
    REMOVING = "removing"


@dataclass(frozen=True, slots=True)
class Ssh:
    """How the host of a node is reached to be set up."""

    user: str = "root"
    port: int = 22
    key_file: Annotated[str | None, Note("Path of a private key on the controller's host.")] = None
    host_key: Annotated[
        str | None, Note("How the host proves who it is, at the first contact: fingerprint (SHA256:…) or public key.")
    ] = None


@dataclass(frozen=True, slots=True)
class Amounts:
    """Memory, processors, disk: what a node has, what is reserved of it, what a machine asks for."""

    mem: Annotated[int, Note("MiB.")] = 0
    cpus: int = 0
    disk: Annotated[int, Note("MiB.")] = 0

    def __add__(self, other: Amounts) -> Amounts:
        return Amounts(self.mem + other.mem, self.cpus + other.cpus, self.disk + other.disk)

    def __sub__(self, other: Amounts) -> Amounts:
        return Amounts(self.mem - other.mem, self.cpus - other.cpus, self.disk - other.disk)


@dataclass(frozen=True, slots=True)
class Overcommit:
    """How often each amount of a node may be promised; 1 is never more than there is."""

    mem: float = 1.0
    cpus: float = 16.0
    disk: float = 4.0


@dataclass(frozen=True, slots=True)
class DriverState:
    """What a node says of one of its drivers."""

    name: str
    available: bool
    reason: Annotated[str, Note("Why it is not available.")] = ""
    version: str = ""
    abilities: tuple[str, ...] = ()
    image_types: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Load:
    """Measured use of a host."""

    load1: Annotated[float, Note("Load average of one minute.")] = 0.0
    mem_used: Annotated[int, Note("MiB.")] = 0


@dataclass(frozen=True, slots=True)
class Power:
    """How the host of a node is switched off: by which of Debian's fence agents, and what that is told."""

    agent: str
    options: Mapping[str, str] = field(default_factory=dict)
    secrets: Annotated[tuple[str, ...], Note("Names of the options whose values are shown to nobody.")] = ()


@dataclass(frozen=True, slots=True)
class FenceTrial:
    """What a trial of a fence agent found, which switched nothing."""

    __pydantic_config__ = answered({"agent": "fence_ipmilan", "status": "on", "words": ""})

    agent: str
    status: Annotated[str, Note("on or off.")]
    words: Annotated[str, Note("What the device calls the plug, where it says so.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFacts:
    """What the controller has written down of a node, as anybody may see it."""

    name: str
    provision: bool
    ssh: Ssh
    labels: Mapping[str, str]
    overcommit: Overcommit
    state: NodeState
    draining: Annotated[bool, Note("Whether it takes no new machines, also after an unreachable time.")]
    limit: Annotated[Amounts, Note("What machines may reserve of it: capacity times overcommit.")]
    load: Load
    architecture: str
    drivers: tuple[DriverState, ...]
    versions: Mapping[str, str]
    operation: Annotated[str | None, Note("The last one: see /iaas/operations/{id}.")]
    seen_at: Annotated[datetime | None, Note("When it last answered.")]
    created_at: datetime
    updated_at: datetime
    power: Annotated[Power | None, Note("Null: no fence agent switches its host off.")] = None
    witness: Annotated[bool, Note("Whether it carries no machines, and is a voice only.")] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Node(NodeFacts):
    """A host that runs hyper."""

    __pydantic_config__ = answered(
        {
            "name": "n1",
            "address": "10.0.0.5:8081",
            "state": "ready",
            "reason": "",
            "capacity": {"mem": 15890, "cpus": 8, "disk": 479187},
            "limit": {"mem": 15890, "cpus": 128, "disk": 1916748},
            "use": {"mem": 512, "cpus": 2, "disk": 128},
            "load": {"load1": 0.42, "mem_used": 4867},
            "overcommit": {"mem": 1.0, "cpus": 16.0, "disk": 4.0},
            "machines": 2,
            "draining": False,
            "witness": False,
            "drained": [],
            "architecture": "x86_64",
            "drivers": [
                {
                    "name": "docker",
                    "available": True,
                    "reason": "",
                    "version": "20.10.24",
                    "abilities": ["console-log", "figures", "images", "pause"],
                    "image_types": ["docker", "rootfs"],
                }
            ],
            "versions": {"garbi": "0.1.0", "python": "3.11.2"},
            "labels": {"rack": "a"},
            "provision": True,
            "ssh": {
                "user": "root",
                "port": 22,
                "key_file": "/root/.ssh/id_ed25519",
                "host_key": "SHA256:EpE9sDkRnvoVzTEdTLCE2BpO2bbm5QtQCd3RXlTMFnM",
            },
            "power": {"agent": "fence_ipmilan", "options": {"ip": "10.0.9.5"}, "secrets": ["password"]},
            "operation": OPERATION,
            "seen_at": EXAMPLE["updated_at"],
            "created_at": EXAMPLE["created_at"],
            "updated_at": EXAMPLE["updated_at"],
        }
    )

    address: Annotated[str, Note("Where its hyper listens.")]
    reason: str
    capacity: Annotated[Amounts, Note("What the host has.")]
    use: Annotated[Amounts, Note("What machines have reserved of the limit.")]
    machines: Annotated[int, Note("How many are assigned to it.")]
    drained: Annotated[
        tuple[str, ...], Note("The machines that its drain has stopped, and that an undrain starts again.")
    ]
