"""What a controller is asked for: strict, and refusing fields that it does not have, as a host is (`garbi.hyper_api.schemas`)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from garbi.hyper_api.machines import Labels, Name
from garbi.hyper_api.schemas import Asked

MAX_OVERCOMMIT = 1000.0
MAX_USER = 32
MAX_PATH = 4096
MAX_SECRET = 512
MAX_NAME = 64
ADDRESS_PATTERN = r"^([A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}$"

Address = Annotated[str, Field(json_schema_extra={"pattern": ADDRESS_PATTERN})]


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
