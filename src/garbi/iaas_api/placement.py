"""Why here, why not there, as it travels: where a machine would run, and what would follow if a node died."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from garbi.base.bounds import Note, answered
from garbi.iaas_api.machines import Strategy
from garbi.iaas_api.nodes import NodeState


class Scope(StrEnum):
    """What a proof covers: every machine of the node, or those alone that may be created again elsewhere."""

    ALL = "all"
    RECREATABLE = "recreatable"


class Lot(StrEnum):
    """What would become of a machine."""

    MOVES = "moves"
    STAYS = "stays"
    FITS_NOWHERE = "fits-nowhere"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether one node can take a machine; if not, the rule that speaks against it and why."""

    node: str
    fits: bool
    filter: Annotated[str, Note("What refused it; empty when it fits.")]
    reason: str
    score: Annotated[float | None, Note("The lowest wins; none for a node that was refused.")] = None


@dataclass(frozen=True, slots=True)
class Explanation:
    """Where a machine would run, and why not elsewhere."""

    __pydantic_config__ = answered(
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
    summary: Annotated[str, Note("What speaks against the other nodes, in one line.")]
    verdicts: tuple[Verdict, ...]


@dataclass(frozen=True, slots=True)
class FenceProspect:
    """What one fence could prove of a node that fell silent now."""

    fence: str
    applies: Annotated[bool, Note("False: it could prove nothing, `why` says why not.")]
    why: str
    covers: Annotated[Scope | None, Note("Which machines its proof would be about.")] = None
    within_s: Annotated[
        float | None,
        Note("Seconds after the last answer of the node within which it has its proof, if those before it have none."),
    ] = None


@dataclass(frozen=True, slots=True)
class MachineFate:
    """What would become of one machine of a node that died now."""

    id: str
    fate: Lot
    why: str
    to: Annotated[str | None, Note("Where it would move to.")] = None
    verdicts: Annotated[tuple[Verdict, ...], Note("Of each other node, for one that fits nowhere.")] = ()


@dataclass(frozen=True, slots=True)
class WhatIf:
    """What would follow if a node died now; asking changes nothing."""

    __pydantic_config__ = answered(
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
    summary: Annotated[str, Note("The whole in one line.")]
    held: Annotated[
        str,
        Note(
            "Why nothing would be fenced or moved by itself; what is told of machines would follow an operator's word."
        ),
    ]
    tried_after_s: Annotated[float, Note("After so many seconds of silence the first fence is tried.")]
    fences: Annotated[
        tuple[FenceProspect, ...],
        Note("In the order in which they are tried; none for a node known to be dead."),
    ]
    machines: Annotated[tuple[MachineFate, ...], Note("All that are on the node, the oldest first.")]
    beside: Annotated[
        tuple[str, ...],
        Note("Ids of machines of other nodes that wait for room and are placed in the same pass."),
    ]
