"""What a controller answers, for servers and their documentation; what it is asked for is in `garbi.iaas_api.requests`.

No answer has a secret in it. Clients need none of this: they handle plain documents (`garbi.iaas_api.client`).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from garbi.iaas_api.machines import Strategy
from garbi.iaas_api.requests import examples

Moment = Annotated[str, Field(description="ISO 8601, UTC", json_schema_extra={"format": "date-time"})]
NodeState = Literal["adding", "ready", "draining", "unreachable", "unavailable", "failed", "removing"]

_CREATED, _UPDATED = "2026-01-02T03:04:05.678901Z", "2026-01-02T03:04:06.123456Z"
_SHA256 = "9b2c1f0e6d3a4b5c8d7e6f5a4b3c2d1e0f9a8b7c6d5e4f3a2b1c0d9e8f7a6b5c"
_OPERATION = "4f1c0a9b8e7d6c5b4a39281706f5e4d3"


class Amounts(BaseModel):
    """Memory, processors, disk."""

    mem: int = Field(description="MiB")
    cpus: int
    disk: int = Field(description="MiB")


class Overcommit(BaseModel):
    """How often each amount may be promised; 1 is never more than there is."""

    mem: float
    cpus: float
    disk: float


class Load(BaseModel):
    """Measured use of the host."""

    load1: float = Field(description="load average of one minute")
    mem_used: int = Field(description="MiB")


class NodeDriver(BaseModel):
    """What a node says of one of its drivers."""

    name: str
    available: bool
    reason: str = Field(description="why it is not available")
    version: str
    abilities: list[str]
    image_types: list[str]


class Ssh(BaseModel):
    """How the host is reached to be set up."""

    user: str
    port: int
    key_file: str | None
    host_key: str | None


class Power(BaseModel):
    """How the host of a node is switched off."""

    agent: str
    options: dict[str, str]
    secrets: list[str] = Field(description="names of the options whose values are shown to nobody")


class FenceTrial(BaseModel):
    """What a trial of a fence agent found, which switched nothing."""

    model_config = examples({"agent": "fence_ipmilan", "status": "on", "words": ""})

    agent: str
    status: Literal["on", "off"]
    words: str = Field(description="what the device calls the plug, where it says so")


class Node(BaseModel):
    """A host that runs hyper."""

    model_config = examples(
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
            "operation": _OPERATION,
            "seen_at": _UPDATED,
            "created_at": _CREATED,
            "updated_at": _UPDATED,
        }
    )

    name: str
    address: str = Field(description="where its hyper listens")
    state: NodeState
    reason: str
    capacity: Amounts = Field(description="what the host has")
    limit: Amounts = Field(description="what machines may reserve of it: capacity times overcommit")
    use: Amounts = Field(description="what machines have reserved of the limit")
    load: Load
    overcommit: Overcommit
    machines: int = Field(description="how many are assigned to it")
    draining: bool = Field(description="whether it takes no new machines, also after an unreachable time")
    witness: bool = Field(False, description="whether it carries no machines, and is a voice only")
    drained: list[str] = Field(description="the machines that its drain has stopped, and that an undrain starts again")
    architecture: str
    drivers: list[NodeDriver]
    versions: dict[str, str]
    labels: dict[str, str]
    provision: bool
    ssh: Ssh
    power: Power | None = Field(description="null: no fence agent switches its host off")
    operation: str | None = Field(description="the last one: see /iaas/operations/{id}")
    seen_at: Moment | None = Field(description="when it last answered")
    created_at: Moment
    updated_at: Moment


class Verdict(BaseModel):
    """Whether one node can take a machine; if not, the rule that speaks against it and why."""

    node: str
    fits: bool
    filter: str
    reason: str
    score: float | None = Field(None, description="the lowest wins; none for a node that was refused")


class Explanation(BaseModel):
    """Where a machine would run, and why not elsewhere."""

    model_config = examples(
        {
            "chosen": "n1",
            "strategy": "spread",
            "summary": "memory on 1 node",
            "verdicts": [
                {"node": "n1", "fits": True, "filter": "", "reason": "", "score": 0.75},
                {"node": "n2", "fits": False, "filter": "memory", "reason": "256 MiB wanted, 128 left", "score": None},
            ],
        }
    )

    chosen: str | None
    strategy: Strategy
    summary: str = Field(description="what speaks against the other nodes, in one line")
    verdicts: list[Verdict]


class FenceProspect(BaseModel):
    """What one fence could prove of a node that fell silent now."""

    fence: str
    applies: bool = Field(description="false: it could prove nothing, `why` says why not")
    why: str
    covers: Literal["all", "recreatable"] | None = Field(None, description="which machines its proof would be about")
    within_s: float | None = Field(
        None,
        description="seconds after the last answer of the node within which it has its proof, if those before it have none",
    )


class MachineFate(BaseModel):
    """What would become of one machine of a node that died now."""

    id: str
    fate: Literal["moves", "stays", "fits-nowhere"]
    to: str | None = Field(None, description="where it would move to")
    why: str
    verdicts: list[Verdict] = Field(description="of each other node, for one that fits nowhere")


class WhatIf(BaseModel):
    """What would follow if a node died now; asking changes nothing."""

    model_config = examples(
        {
            "node": "n1",
            "state": "ready",
            "reason": "",
            "summary": "1 moves, 1 stays, 1 fits nowhere; lease could prove it within 66 s",
            "held": "",
            "tried_after_s": 10.0,
            "fences": [
                {
                    "fence": "power",
                    "applies": False,
                    "why": "no power program is set (GARBI_IAAS_POWER_COMMAND)",
                    "covers": None,
                    "within_s": None,
                },
                {"fence": "lease", "applies": True, "why": "", "covers": "recreatable", "within_s": 66.0},
            ],
            "machines": [
                {"id": "web", "fate": "moves", "to": "n2", "why": "chosen: the only one that fits", "verdicts": []},
                {
                    "id": "db",
                    "fate": "stays",
                    "to": None,
                    "why": "its policy is stay: it waits for its node, where its disk is",
                    "verdicts": [],
                },
                {
                    "id": "big",
                    "fate": "fits-nowhere",
                    "to": None,
                    "why": "memory on 1 node",
                    "verdicts": [
                        {
                            "node": "n2",
                            "fits": False,
                            "filter": "memory",
                            "reason": "memory: 2048 MiB asked for, 512 of 4096 MiB free",
                            "score": None,
                        }
                    ],
                },
            ],
            "beside": [],
        }
    )

    node: str
    state: NodeState
    reason: str
    summary: str = Field(description="the whole in one line")
    held: str = Field(
        description="why nothing would be fenced or moved by itself; what is told of machines would follow an operator's word"
    )
    tried_after_s: float = Field(description="after so many seconds of silence the first fence is tried")
    fences: list[FenceProspect] = Field(
        description="in the order in which they are tried; none for a node known to be dead"
    )
    machines: list[MachineFate] = Field(description="all that are on the node, the oldest first")
    beside: list[str] = Field(
        description="ids of machines of other nodes that wait for room and are placed in the same pass"
    )
