"""Leases as they travel between a controller and a host, for servers; clients handle plain documents."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from garbi.hyper_api.schemas import Asked

SHORTEST_TTL_S, LONGEST_TTL_S = 5, 3600
MAX_PEERS = 1000
MAX_NUMBER = 10**15 - 1

Hexadecimal = Annotated[str, Field(json_schema_extra={"pattern": "^[0-9a-f]{1,32}$"})]
Number = Annotated[int, Field(ge=1, le=MAX_NUMBER)]

_BOOT = "6f1f7f0e-3c43-4d40-9b51-0c7ab1a0e5c6"
_RENEWAL: dict[str, Any] = {
    "term": 3,
    "holder": "9f86d081884c7d65",
    "number": 2,
    "ttl_s": 45,
    "seen": {"boot_id": _BOOT, "moment": 86012.25},
    "arm": True,
    "peers": ["192.0.2.12:8081", "192.0.2.13:8081"],
    "witness_key": "k5BaQ2tXv0yH3mWn7LrD",
}


class Seen(Asked):
    """What the host said in an earlier answer: its boot, and the moment of that answer."""

    boot_id: str = Field(max_length=64)
    moment: float = Field(ge=0, allow_inf_nan=False, description="seconds since the boot of the host")


class LeaseRequest(Asked):
    """A renewal. The lease ends `ttl_s` after the moment in `seen`, however late the renewal arrives."""

    model_config = ConfigDict(json_schema_extra={"examples": [_RENEWAL]})

    term: Number = Field(description="counts the controllers that held the loops of the cloud one after the other")
    holder: Hexadecimal = Field(description="tells two controllers with the same term apart")
    number: Number = Field(description="counts how often the machines of the host were declared dead")
    ttl_s: float = Field(ge=SHORTEST_TTL_S, le=LONGEST_TTL_S, allow_inf_nan=False)
    seen: Seen | None = None
    arm: bool = Field(False, description="end by itself, where a watchdog works")
    peers: list[str] = Field(default_factory=list, max_length=MAX_PEERS, description="host:port of all other nodes")
    witness_key: str = Field(description="what the nodes of this controller ask one another with", max_length=258)


class LeaseAnswer(BaseModel):
    """A renewed lease, and what the controller looks at regularly. `moment` is what the next renewal has seen."""

    controller: str
    term: int
    number: int
    fenced: int = Field(description="leases up to this number have ended for good")
    boot_id: str
    cluster_id: str
    moment: float = Field(description="seconds since the boot of the host")
    expires_in_s: float | None = Field(description="seconds until the lease would end; none before anything was seen")
    active: bool = Field(description="machines of this lease may run")
    armed: bool = Field(description="it ends by itself unless it is renewed")
    guarded: bool = Field(description="a watchdog works beside the agent")
    peers_heard: int = Field(description="other nodes that answered when they were last asked")
    delay_s: float = Field(0.0, description="how late agent or watchdog got a processor, at worst in the last minute")
    last_event: int = Field(description="the number of the newest event of the host")
    unwritable: str = Field("", description="why nothing can be written on the host's disk; empty when it can")
    going_down: bool = Field(False, description="the host ends now, as somebody planned, and is expected back")
    load1: float
    mem_used: int = Field(description="MiB")


class Lease(BaseModel):
    """The lease that a controller has on this host."""

    controller: str
    term: int
    number: int
    fenced: int = Field(description="leases up to this number have ended for good")
    active: bool = Field(description="machines of this lease may run")
    armed: bool = Field(description="it ends by itself unless it is renewed")
    guarded: bool = Field(description="a watchdog works beside the agent")
    age_s: float | None = Field(description="seconds since it was renewed; none if not since the host booted")
    expires_in_s: float | None
    peers: list[str]
    peers_heard: int


class Witness(BaseModel):
    """When this host last heard a controller, for another of its nodes."""

    controller: str
    age_s: float | None = Field(description="seconds since the last renewal, or since the boot")
