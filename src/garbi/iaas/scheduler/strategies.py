"""Which of the nodes that fit a machine goes to. Each strategy gives a score, and the lowest one wins; ties go by name."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from garbi.iaas.model.machine import Strategy
from garbi.iaas.model.node import Amounts, Node
from garbi.iaas.scheduler.asking import Ask, Candidate


@dataclass(frozen=True, slots=True)
class Ranking:
    """How a strategy orders nodes.

    `score` is the number that is shown, the lowest being the best. `then` decides among equal scores, before the name does.
    `describe` says of one node what its score means; `why` says what the chosen one was chosen for.
    """

    score: Callable[[Candidate], float]
    then: Callable[[Ask, Candidate], float]
    describe: Callable[[Candidate], str]
    why: str


def machines_that_fit(ask: Ask, node: Candidate | Node) -> float:
    """How many machines like the one asked for still fit on the node; infinite when it asks for nothing."""
    free, asked = node.free, ask.amounts
    pairs = ((free.mem, asked.mem), (free.cpus, asked.cpus), (free.disk, asked.disk))
    return min((float(have // need) for have, need in pairs if need > 0), default=math.inf)


def promised(node: Node) -> float:
    """The share of the node that is reserved, from 0 to 1, of whichever amount has the largest."""
    return max(
        (_share(each, of) for each, of in zip(_each(node.reserved), _each(node.limit), strict=True)), default=0.0
    )


def measured(node: Node) -> float:
    """The measured use of the host, from 0 (idle) on, in steps of a tenth: of processor or memory, whichever is the larger."""
    busiest = max(_share(node.load.load1, node.has.cpus), _share(node.load.mem_used, node.has.mem))
    return math.floor(busiest * 10 + 0.5) / 10


def _each(amounts: Amounts) -> tuple[int, int, int]:
    return amounts.mem, amounts.cpus, amounts.disk


def _share(part: float, whole: float) -> float:
    """A share; 0 where a node reports what is no number."""
    share = part / whole if whole > 0 else 0.0
    return share if math.isfinite(share) and share > 0 else 0.0


def _machines(candidate: Candidate) -> str:
    return f"{candidate.running} machine{'' if candidate.running == 1 else 's'} running"


RANKINGS: dict[Strategy, Ranking] = {
    Strategy.SPREAD: Ranking(
        score=lambda candidate: float(candidate.running),
        then=lambda ask, candidate: 0.0,
        describe=_machines,
        why="fewest machines running",
    ),
    Strategy.PACK: Ranking(
        score=lambda candidate: 1.0 - promised(candidate.node),
        then=lambda ask, candidate: -machines_that_fit(ask, candidate),
        describe=lambda candidate: f"{promised(candidate.node):.0%} of it promised",
        why="the fullest that fits",
    ),
    Strategy.LOAD: Ranking(
        score=lambda candidate: measured(candidate.node),
        then=lambda ask, candidate: float(candidate.running),
        describe=lambda candidate: f"{measured(candidate.node):.0%} in use",
        why="least in use",
    ),
}
