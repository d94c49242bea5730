"""What travels between a host and those who use it, for servers: requests are checked here, answers documented.

Requests are strict (no `"512"` for 512) and refuse fields that they do not have. Clients need none of this: they handle
plain documents (`garbi.hyper_api.client`).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from garbi.hyper_api.machines import EXAMPLE
from garbi.hyper_api.vocabulary import State, Wish

Moment = Annotated[str, Field(description="ISO 8601, UTC", json_schema_extra={"format": "date-time"})]
ImageFormat = Literal["qcow2", "raw", "docker", "rootfs"]
EventKind = Literal["created", "wish", "state", "removed", "violation", "resolved"]


def _example(*examples: Any) -> Any:
    return {"examples": list(examples)}


class Asked(BaseModel):
    """A request: exactly these fields, exactly these types."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Image(BaseModel):
    """Immutable content that machines start from; the name points to a digest."""

    model_config = ConfigDict(
        json_schema_extra=_example(
            {
                "name": "tiny",
                "type": "qcow2",
                "size": 15728640,
                "virtual_size": 67108864,
                "sha256": EXAMPLE["image_sha256"],
                "state": "active",
                "created_at": EXAMPLE["created_at"],
                "cached": False,
                "used_at": EXAMPLE["created_at"],
            }
        )
    )

    name: str
    type: ImageFormat
    size: int = Field(description="bytes of the content")
    virtual_size: int = Field(description="bytes that it unfolds to, for a disk")
    sha256: str
    state: Literal["queued", "uploading", "active", "failed"]
    created_at: Moment
    cached: bool = Field(description="it can be fetched again: it is given up when its space is needed")
    used_at: Moment = Field(description="when a machine was last made from it, or it was added")


class KeptDisk(BaseModel):
    """A disk that outlives its machine; what it holds is read with the daemon's own tools."""

    model_config = ConfigDict(
        json_schema_extra=_example(
            {
                "name": "web.3",
                "machine_id": "web",
                "type": "libvirt",
                "image_sha256": EXAMPLE["image_sha256"],
                "epoch": 3,
                "place": "/var/lib/garbi/hyper/drivers/libvirt/pool/web.3.kept",
                "size": 4718592,
                "kept_at": EXAMPLE["created_at"],
                "keep_s": 604800,
                "left_s": 518400,
            }
        )
    )

    name: str
    machine_id: str = Field(description="the machine whose disk it was")
    type: str
    image_sha256: str = Field(description="the content that it lies on, which stays as long; empty where there is none")
    epoch: int = Field(description="which copy of the machine it was, by its label garbi.epoch")
    place: str = Field(description="where it is: a file of the host, or a stopped container")
    size: int = Field(description="bytes of its own")
    kept_at: Moment
    keep_s: int = Field(description="seconds that it is kept while the agent runs")
    left_s: int = Field(description="those that are left")


class Driver(BaseModel):
    """What runs one type of machine."""

    model_config = ConfigDict(
        json_schema_extra=_example(
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
    )

    name: str
    available: bool
    reason: str = Field(description="why it is not available")
    version: str = Field(description="of its daemon")
    abilities: list[str]
    image_types: list[str]
    details: dict[str, str]


class Traces(BaseModel):
    """What is left of a machine on a host."""

    model_config = ConfigDict(
        json_schema_extra=_example({"id": "web", "type": "docker", "recorded": False, "at_engine": False})
    )

    id: str
    type: str
    recorded: bool = Field(description="whether the agent has such a machine")
    at_engine: bool = Field(description="whether its engine, which was asked, has anything under its name")


class Figures(BaseModel):
    """Live figures of a running machine, counted since its start."""

    model_config = ConfigDict(
        json_schema_extra=_example(
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
    )

    id: str
    cpu_seconds: float
    memory_bytes: int
    disk_read_bytes: int
    disk_written_bytes: int
    network_received_bytes: int
    network_sent_bytes: int


class Violation(BaseModel):
    """Something that must never be, and is."""

    model_config = ConfigDict(
        json_schema_extra=_example(
            {"invariant": "I5", "subject": "web", "detail": "running here, absent at the driver"}
        )
    )

    invariant: str
    subject: str
    detail: str
    certain: bool = Field(True, description="false: it could not be checked")


class Event(BaseModel):
    """Something that happened to a machine, or that an audit found; the `data` of a server-sent event, whose `id` is `seq`."""

    model_config = ConfigDict(
        json_schema_extra=_example(
            {
                "seq": 17,
                "at": EXAMPLE["updated_at"],
                "machine_id": "web",
                "kind": "state",
                "state": "running",
                "wish": "running",
                "reason": "",
            }
        )
    )

    seq: int
    at: Moment
    machine_id: str = Field(description="for what an audit found: what it is about")
    kind: EventKind
    state: State | None = Field(description="none for what an audit found")
    wish: Wish | None
    reason: str


class Memory(BaseModel):
    total_mib: int
    available_mib: int


class Disk(BaseModel):
    """The file system of the data directory."""

    path: str
    total_bytes: int
    free_bytes: int


class Virtualisation(BaseModel):
    """What runs the guests of virtual machines, and why."""

    accelerator: Literal["kvm", "tcg"]
    reason: str
    cpu_flag: str = Field(description="vmx, svm or nothing")
    kvm_device: bool
    nested: bool = Field(description="whether this host is a virtual machine itself")


class Reserved(BaseModel):
    """What the machines of this host may use, all together."""

    machines: int
    mem: int = Field(description="MiB")
    cpus: int


class Limits(BaseModel):
    """What machines may reserve together."""

    mem: int = Field(description="MiB")
    cpus: int = Field(description="processors, with the over-commit of this host")


class Host(BaseModel):
    """One look at the host."""

    model_config = ConfigDict(
        json_schema_extra=_example(
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
    )

    node: str = Field(description="the name of this host in machines")
    cluster_id: str = Field(description="what this agent made is named after the first eight digits")
    hostname: str
    boot_id: str
    kernel: str
    architecture: str
    cpus: int
    load_average: float
    memory: Memory
    disk: Disk
    virtualisation: Virtualisation
    limits: Limits
    reserved: Reserved
    versions: dict[str, str]


class Health(BaseModel):
    """Whether the agent does its work."""

    model_config = ConfigDict(json_schema_extra=_example({"status": "ok", "version": "0.1.0"}))

    status: Literal["ok", "failing"]
    version: str
    code: str | None = Field(default=None, description="of the error that keeps it from its work, where that is known")
    detail: str | None = Field(default=None, description="what that is, in a sentence")


class Problem(BaseModel):
    """Problem details, RFC 9457; some errors have further members, such as `field` and `allowed`."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra=_example(
            {
                "type": "urn:garbi:error:port-taken",
                "title": "Port taken",
                "status": 409,
                "detail": "port 8080/tcp belongs to machine web",
                "code": "port-taken",
                "field": "ports",
                "holder": "machine web",
            }
        ),
    )

    type: str
    title: str
    status: int
    detail: str
    code: str = Field(description="stable: programs decide by it")
