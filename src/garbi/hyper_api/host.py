"""A host as it travels: what it has, what of it is in use, what it can run machines with, whether its agent works."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Literal

from garbi.base.bounds import Note, answered


class Accelerator(StrEnum):
    """What runs the guests' instructions: the processor, or QEMU."""

    KVM = "kvm"
    TCG = "tcg"


@dataclass(frozen=True, slots=True)
class Memory:
    """The memory of a host."""

    total_mib: int
    available_mib: int


@dataclass(frozen=True, slots=True)
class Disk:
    """The file system of the data directory."""

    path: str
    total_bytes: int
    free_bytes: int


@dataclass(frozen=True, slots=True)
class Virtualisation:
    """What runs the guests of virtual machines, and why."""

    accelerator: Accelerator
    reason: Annotated[str, Note("Why KVM is not used, or where it runs.")]
    cpu_flag: Annotated[str, Note("vmx, svm or nothing.")]
    kvm_device: bool
    nested: Annotated[bool, Note("Whether this host is a virtual machine itself.")]


@dataclass(frozen=True, slots=True)
class Reserved:
    """What the machines of a host may use, all together."""

    machines: int
    mem: Annotated[int, Note("MiB.")]
    cpus: int


@dataclass(frozen=True, slots=True)
class Limits:
    """What machines may reserve together."""

    mem: Annotated[int, Note("MiB.")]
    cpus: Annotated[int, Note("Processors, with the over-commit of this host.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class HostReport:
    """One look at a host; drivers add their own versions."""

    hostname: str
    boot_id: str
    kernel: str
    architecture: str
    cpus: int
    load_average: float
    memory: Memory
    disk: Disk
    virtualisation: Virtualisation
    versions: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Host(HostReport):
    """One look at the host."""

    __pydantic_config__ = answered(
        {
            "node": "laptop",
            "cluster_id": "5f3a9c0d1e2b4a6788990a1b2c3d4e5f",
            "hostname": "laptop",
            "boot_id": "6f1f7f0e-3c43-4d40-9b51-0c7ab1a0e5c6.9",
            "kernel": "6.1.0-28-amd64",
            "architecture": "x86_64",
            "cpus": 8,
            "load_average": 0.42,
            "memory": {"total_mib": 15890, "available_mib": 11023},
            "disk": {"path": "/var/lib/garbi/hyper", "total_bytes": 502468108288, "free_bytes": 401974486630},
            "virtualisation": {
                "accelerator": "kvm",
                "reason": "on the processor of this host",
                "cpu_flag": "vmx",
                "kvm_device": True,
                "nested": False,
            },
            "limits": {"mem": 15378, "cpus": 64},
            "reserved": {"machines": 2, "mem": 512, "cpus": 2},
            "versions": {"garbi": "0.1.0", "python": "3.11.2"},
        }
    )

    node: Annotated[str, Note("The name of this host in machines.")]
    cluster_id: Annotated[str, Note("What this agent made is named after the first eight digits.")]
    limits: Limits
    reserved: Reserved


@dataclass(frozen=True, slots=True)
class Driver:
    """What runs one type of machine."""

    __pydantic_config__ = answered(
        {
            "name": "docker",
            "available": True,
            "reason": "",
            "version": "20.10.24",
            "abilities": ["console-log", "figures", "images", "pause"],
            "image_types": ["docker", "rootfs"],
            "details": {},
        }
    )

    name: str
    available: bool
    reason: Annotated[str, Note("Why it is not available.")]
    version: Annotated[str, Note("Of its daemon.")]
    abilities: tuple[str, ...]
    image_types: tuple[str, ...]
    details: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Traces:
    """What is left of a machine on a host."""

    __pydantic_config__ = answered({"id": "web", "type": "docker", "recorded": False, "at_engine": False})

    id: str
    type: str
    recorded: Annotated[bool, Note("Whether the agent has such a machine.")]
    at_engine: Annotated[bool, Note("Whether its engine, which was asked, has anything under its name.")]


@dataclass(frozen=True, slots=True)
class Figures:
    """Live figures of a running machine, counted since its start."""

    cpu_seconds: float
    memory_bytes: int
    disk_read_bytes: int
    disk_written_bytes: int
    network_received_bytes: int
    network_sent_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineFigures(Figures):
    """Live figures of a running machine, counted since its start."""

    __pydantic_config__ = answered(
        {
            "id": "web",
            "cpu_seconds": 1.25,
            "memory_bytes": 1572864,
            "disk_read_bytes": 0,
            "disk_written_bytes": 4096,
            "network_received_bytes": 1204,
            "network_sent_bytes": 816,
        }
    )

    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """Whether the agent does its work."""

    __pydantic_config__ = answered({"status": "ok", "version": "0.1.0", "code": None, "detail": None})

    status: Literal["ok", "failing"]
    version: str
    code: Annotated[str | None, Note("Of the error that keeps it from its work, where that is known.")] = None
    detail: Annotated[str | None, Note("What that is, in a sentence.")] = None
