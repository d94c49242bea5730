"""What travels between a host and those who use it, for servers: requests are checked here, answers documented.

Requests are strict (no `"512"` for 512) and refuse fields that they do not have. Clients need none of this: they handle
plain documents (`garbi.hyper_api.client`).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

MAX_MEM = 2**24
MAX_CPUS = 4096
MAX_PORTS = 128
MAX_LABELS = 64
MAX_LABEL = 256
MAX_IMAGE = 255
NAME_PATTERN = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
IMAGE_PATTERN = r"^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$"

Moment = Annotated[str, Field(description="ISO 8601, UTC", json_schema_extra={"format": "date-time"})]
# The patterns document; what checks is the model of the host, which explains itself.
Name = Annotated[str, Field(json_schema_extra={"pattern": NAME_PATTERN})]
ImageReference = Annotated[
    str, Field(json_schema_extra={"pattern": r"^[!-~]+$", "minLength": 1, "maxLength": MAX_IMAGE})
]
Labels = Annotated[
    dict[str, str],
    Field(
        json_schema_extra={
            "maxProperties": MAX_LABELS,
            "propertyNames": {"pattern": r"^[!-~]+$", "maxLength": MAX_LABEL},
            "additionalProperties": {"type": "string", "pattern": r"^[ -~]*$", "maxLength": MAX_LABEL},
        }
    ),
]

MachineState = Literal[
    "pending", "creating", "stopped", "starting", "running", "paused", "stopping", "failed", "unknown", "removing"
]
MachineWish = Literal["running", "stopped", "paused", "removed"]
PortProtocol = Literal["tcp", "udp"]
FailurePolicy = Literal["stay", "recreate"]
Restart = Literal["no", "on-failure", "always"]
ImageFormat = Literal["qcow2", "raw", "docker", "rootfs"]
EventKind = Literal["created", "wish", "state", "removed", "violation", "resolved"]

_MACHINE_EXAMPLE: dict[str, Any] = {
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


def _example(*examples: Any) -> Any:
    return {"examples": list(examples)}


class Asked(BaseModel):
    """A request: exactly these fields, exactly these types."""

    model_config = ConfigDict(extra="forbid", strict=True)


class PublishedPort(Asked):
    """A port of the host, on every address of it, that leads to a port of a machine."""

    node_port: int = Field(ge=1, le=65535)
    machine_port: int = Field(ge=1, le=65535)
    protocol: PortProtocol = "tcp"


class MachineRequest(Asked):
    """A machine to make. `id` and `name` are chosen, and `type` follows from the image, when they are not given."""

    model_config = ConfigDict(
        json_schema_extra=_example(
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
    )

    image: ImageReference = Field(description="an image of this host; where a driver may pull, a registry reference")
    type: Name | None = Field(None, description="which driver runs it: see /hyper/drivers")
    id: Name | None = None
    name: Name | None = None
    mem: int = Field(256, ge=1, le=MAX_MEM, description="MiB")
    cpus: int = Field(1, ge=1, le=MAX_CPUS)
    ports: list[PublishedPort] = Field(default_factory=list, max_length=MAX_PORTS)
    labels: Labels = Field(default_factory=dict)
    state: Literal["running", "stopped"] = Field("running", description="the wish")
    full_copy: bool = Field(False, description="copy the whole image instead of the changes only")
    restart: Restart = Field("on-failure", description="when it is started again after it ended by itself")
    on_node_failure: FailurePolicy | None = None


class WishRequest(Asked):
    """What a machine should be."""

    model_config = ConfigDict(json_schema_extra=_example({"state": "stopped"}))

    state: Literal["running", "stopped", "paused"]


class Machine(BaseModel):
    """A machine of this host."""

    model_config = ConfigDict(json_schema_extra=_example(_MACHINE_EXAMPLE))

    id: str
    name: str
    type: str
    image: str
    image_sha256: str = Field(description="the content that it was made from")
    mem: int = Field(description="MiB")
    cpus: int
    node: str
    ports: list[PublishedPort]
    address: str | None
    labels: dict[str, str]
    full_copy: bool
    state: MachineState = Field(description="what the host last observed")
    wish: MachineWish = Field(description="what the user wants")
    settled: bool = Field(description="whether the host has done, or given up, what the user last asked for")
    reason: str
    on_node_failure: FailurePolicy
    restart: Restart
    restarts: int = Field(description="how often it was started again since it was wished to run, or ran for long")
    held: bool = Field(description="it may not run now, and will be started when it may: the reason says why")
    created_at: Moment
    updated_at: Moment


class Image(BaseModel):
    """Immutable content that machines start from; the name points to a digest."""

    model_config = ConfigDict(
        json_schema_extra=_example(
            {
                "name": "tiny",
                "type": "qcow2",
                "size": 15728640,
                "virtual_size": 67108864,
                "sha256": _MACHINE_EXAMPLE["image_sha256"],
                "state": "active",
                "created_at": _MACHINE_EXAMPLE["created_at"],
                "cached": False,
                "used_at": _MACHINE_EXAMPLE["created_at"],
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
                "image_sha256": _MACHINE_EXAMPLE["image_sha256"],
                "epoch": 3,
                "place": "/var/lib/garbi/hyper/drivers/libvirt/pool/web.3.kept",
                "size": 4718592,
                "kept_at": _MACHINE_EXAMPLE["created_at"],
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
                "at": _MACHINE_EXAMPLE["updated_at"],
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
    state: MachineState | None = Field(description="none for what an audit found")
    wish: MachineWish | None
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
