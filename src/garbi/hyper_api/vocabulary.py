"""The words that travel between a host, a controller and their users: states, wishes, policies, ports, types of images."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, TypeVar

from annotated_types import Ge, Le

from garbi.base.bounds import ASKED
from garbi.base.errors import InvalidField

E = TypeVar("E", bound=StrEnum)


def member(kind: type[E], field: str, value: Any) -> E:
    """The member of an enumeration that `value` names; raises InvalidField, which names `field` and all members."""
    try:
        return kind(value)
    except ValueError:
        allowed = [str(each) for each in kind]
        raise InvalidField(field, f"{field} {value!r} is not allowed: it takes {', '.join(allowed)}", allowed) from None


class State(StrEnum):
    """What the host last observed of a machine; only the agent writes it."""

    PENDING = "pending"
    CREATING = "creating"
    STOPPED = "stopped"
    STARTING = "starting"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPING = "stopping"
    FAILED = "failed"
    UNKNOWN = "unknown"
    REMOVING = "removing"


class Wish(StrEnum):
    """What the user wants of a machine; only the user writes it."""

    RUNNING = "running"
    STOPPED = "stopped"
    PAUSED = "paused"
    REMOVED = "removed"


class Protocol(StrEnum):
    TCP = "tcp"
    UDP = "udp"


class NodeFailurePolicy(StrEnum):
    """What becomes of a machine whose node is proven dead."""

    STAY = "stay"
    RECREATE = "recreate"


class RestartPolicy(StrEnum):
    """What the agent does when a machine ends by itself."""

    NO = "no"
    ON_FAILURE = "on-failure"
    ALWAYS = "always"


RESTART_PAUSES_S = (0.0, 10.0, 30.0, 60.0, 120.0)
"""Seconds before the first restart of a machine that failed, before the second and so on; then it is given up."""

RESTARTS_FORGOTTEN_AFTER_S = 600.0
"""A machine that ran for so long has all its restarts before it again."""


HIGHEST_PORT = 65535

Port = Annotated[int, Ge(1), Le(HIGHEST_PORT)]


@dataclass(frozen=True, slots=True, order=True)
class PublishedPort:
    """A port of the host, on every address of it, that leads to a port of a machine."""

    __pydantic_config__ = ASKED

    node_port: Port
    machine_port: Port
    protocol: Protocol = Protocol.TCP

    def __str__(self) -> str:
        suffix = "" if self.protocol is Protocol.TCP else f"/{self.protocol}"
        return f"{self.node_port}:{self.machine_port}{suffix}"


class ImageType(StrEnum):
    """The format of an image's content, declared when it is added, checked once, never guessed again."""

    QCOW2 = "qcow2"
    RAW = "raw"
    DOCKER = "docker"
    ROOTFS = "rootfs"


class ImageState(StrEnum):
    QUEUED = "queued"
    UPLOADING = "uploading"
    ACTIVE = "active"
    FAILED = "failed"
