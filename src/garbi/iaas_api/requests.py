"""What a controller is asked for: strict, and refusing fields that it does not have, as a host is (`garbi.hyper_api.schemas`)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from garbi.hyper_api.schemas import (
    IMAGE_PATTERN,
    MAX_CPUS,
    MAX_LABEL,
    MAX_MEM,
    MAX_PORTS,
    Asked,
    FailurePolicy,
    ImageFormat,
    ImageReference,
    Labels,
    Name,
    PublishedPort,
)

MAX_DISK = 2**31
MAX_OVERCOMMIT = 1000.0
MAX_USER = 32
MAX_PATH = 4096
MAX_SECRET = 512
MAX_NAME = 64
ADDRESS_PATTERN = r"^([A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}$"

Address = Annotated[str, Field(json_schema_extra={"pattern": ADDRESS_PATTERN})]
Strategy = Literal["spread", "pack", "load"]
Restart = Literal["no", "on-failure", "always"]


def examples(*given: Any) -> ConfigDict:
    """The settings of a schema that shows these examples."""
    return ConfigDict(json_schema_extra={"examples": list(given)})


class SshRequest(Asked):
    """How the host of a node is reached to be set up."""

    user: str = Field(default="root", max_length=MAX_USER, json_schema_extra={"pattern": r"^[a-z_][a-z0-9_-]{0,31}$"})
    port: int = Field(default=22, ge=1, le=65535)
    key_file: str | None = Field(
        default=None, max_length=MAX_PATH, description="path of a private key on the controller's host"
    )
    host_key: str | None = Field(
        default=None,
        max_length=MAX_PATH,
        description="fingerprint (SHA256:…) or public key of the host, for the first contact",
    )


class OvercommitRequest(Asked):
    """How often each amount of a node may be promised; what is left out follows the settings of the controller."""

    mem: float | None = Field(default=None, gt=0, le=MAX_OVERCOMMIT)
    cpus: float | None = Field(default=None, gt=0, le=MAX_OVERCOMMIT)
    disk: float | None = Field(default=None, gt=0, le=MAX_OVERCOMMIT)


class NodeRequest(Asked):
    """A host to make a node."""

    model_config = examples(
        {"name": "n1", "address": "10.0.0.5:8081"},
        {
            "name": "n2",
            "address": "10.0.0.6:8081",
            "provision": True,
            "ssh": {"user": "admin", "port": 22, "key_file": "/root/.ssh/id_ed25519"},
            "labels": {"rack": "a"},
            "overcommit": {"cpus": 8},
        },
    )

    name: Name
    address: Address = Field(description="host:port where its hyper listens; SSH goes to the same host")
    provision: bool = Field(True, description="set the host up over SSH; otherwise hyper is there already")
    ssh: SshRequest = Field(default_factory=SshRequest)
    labels: Labels = Field(default_factory=dict)
    overcommit: OvercommitRequest = Field(default_factory=OvercommitRequest)
    witness: bool = Field(False, description="carry no machines: be one more voice beside two nodes")
    live_restore: bool = Field(
        False,
        description="let the containers of a Docker that is found on the host run on while dockerd restarts; it is not restarted",
    )
    token: str | None = Field(
        None, max_length=MAX_SECRET, description="the secret of a hyper that is there already; never in an answer"
    )


class PowerRequest(Asked):
    """How the host of a node is switched off. Options that are not named stay, null takes one away."""

    agent: str | None = Field(
        None,
        max_length=MAX_NAME,
        description="a fence agent of Debian's: fence_ipmilan; another one begins without options",
    )
    options: dict[str, str | None] = Field(default_factory=dict, description="what it has to be told, but for secrets")
    secrets: dict[str, str | None] = Field(default_factory=dict, description="the same, in no answer: password, …")


class NodeChangeRequest(Asked):
    """What is wanted otherwise of a node; what is left out stays as it is."""

    model_config = examples(
        {"token": "garbi_Zm9yLXRoZS1kb2N1bWVudGF0aW9uLW9ubHk"},
        {
            "power": {
                "agent": "fence_ipmilan",
                "options": {"ip": "10.0.9.5", "username": "garbi", "lanplus": "1"},
                "secrets": {"password": "only-for-the-documentation"},
            }
        },
    )

    power: PowerRequest | None = Field(None, description="null: its host is switched off by no fence agent")
    token: str = Field(
        "",
        min_length=1,
        max_length=MAX_SECRET,
        description="the token of its hyper, made anew there; never in an answer",
    )


class NodeWishRequest(Asked):
    """What a node should be: `draining`, `ready` again, or, when it is unreachable and known to be dead, `unavailable`."""

    model_config = examples({"state": "draining"})

    state: Literal["draining", "ready", "unavailable"]


class MachineRequest(Asked):
    """A machine to make. `id`, `name` and `node` are chosen, `type` follows from the image, when they are not given."""

    model_config = examples(
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

    image: ImageReference = Field(description="an image of this cloud")
    type: Name | None = Field(None, description="which driver runs it")
    id: Name | None = None
    name: Name | None = None
    mem: int = Field(256, ge=1, le=MAX_MEM, description="MiB")
    cpus: int = Field(1, ge=1, le=MAX_CPUS)
    disk: int = Field(0, ge=0, le=MAX_DISK, description="MiB that are reserved; 0: what the image unfolds to")
    node: Name | None = Field(None, description="the node that it must run on; to publish ports, it must be given")
    ports: list[PublishedPort] = Field(default_factory=list, max_length=MAX_PORTS)
    labels: Labels = Field(default_factory=dict)
    require: Labels = Field(default_factory=dict, description="labels that its node must have")
    apart: str | None = Field(
        None, max_length=MAX_LABEL, description="key of a label: no two machines with the same value of it share a node"
    )
    strategy: Strategy | None = Field(None, description="what decides among the nodes that fit")
    state: Literal["running", "stopped"] = Field("running", description="the wish")
    full_copy: bool = Field(False, description="copy the whole image instead of the changes only")
    restart: Restart = Field("on-failure", description="when its node starts it again after it ended by itself")
    on_node_failure: FailurePolicy | None = None


class MachineWishRequest(Asked):
    """What a machine should be."""

    model_config = examples({"state": "stopped"})

    state: Literal["running", "stopped", "paused"]


class ImageRequest(Asked):
    """An image to fill: its content follows by `PUT /iaas/images/{name}/file`."""

    model_config = examples({"name": "tiny", "type": "qcow2"})

    name: Annotated[str, Field(json_schema_extra={"pattern": IMAGE_PATTERN})]
    type: ImageFormat
