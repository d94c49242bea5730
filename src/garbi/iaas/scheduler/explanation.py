"""Why here, why not there: a verdict for every node, and what they add up to."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from garbi.base.errors import Conflict, NothingFits, PortTaken
from garbi.hyper_api.vocabulary import PublishedPort
from garbi.iaas.model.machine import Strategy

MOST_NAMED = 10


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found of one node.

    `filter` names what refused it, empty when it fits; `reason` is the sentence for it. `score` is the strategy's, the lowest
    being the best; None for a node that was refused. `brief` is the reason in a few words, for the sum over nodes.
    """

    node: str
    fits: bool
    filter: str
    reason: str
    score: float | None
    brief: str = ""

    def document(self) -> dict[str, Any]:
        """The verdict as it is answered."""
        return {
            "node": self.node,
            "fits": self.fits,
            "filter": self.filter,
            "reason": self.reason,
            "score": self.score,
        }


@dataclass(frozen=True, slots=True)
class Explanation:
    """The verdicts, one for each node, in the order of their names; `chosen` names the node that won.

    `node` is the one that the user named, if any. `taken` is the port that somebody else has on it, and who.
    """

    verdicts: tuple[Verdict, ...]
    chosen: str | None
    strategy: Strategy
    node: str | None = None
    taken: tuple[PublishedPort, str] | None = None

    def summary(self) -> str:
        """The outcome in one line: `memory on 2 nodes, type libvirt missing on 1`, or why the chosen one won."""
        if self.chosen is not None:
            return f"{self.chosen}: {self._of(self.chosen).reason}"
        if self.node is not None:
            found = [verdict for verdict in self.verdicts if verdict.node == self.node]
            return found[0].reason if found else f"there is no node called {self.node}; {self._known()}"
        if not self.verdicts:
            return "there are no nodes"
        counted = Counter(verdict.brief for verdict in self.verdicts)
        parts = [f"{brief} on {number}" for brief, number in sorted(counted.items(), key=lambda one: (-one[1], one[0]))]
        nodes = " node" if max(counted.values()) == 1 else " nodes"
        return ", ".join([parts[0] + nodes, *parts[1:]])

    def to_error(self) -> Conflict:
        """The refusal when no node was chosen: PortTaken when a port of the named node is somebody's, else NothingFits."""
        documents = [verdict.document() for verdict in self.verdicts]
        if self.taken is not None:
            port, holder = self.taken
            return PortTaken(
                f"port {port.node_port}/{port.protocol} of node {self.node} is taken by {holder}",
                field="ports",
                holder=holder,
                node=self.node,
                node_port=port.node_port,
                protocol=str(port.protocol),
                verdicts=documents,
            )
        if self.node is not None:
            known = any(verdict.node == self.node for verdict in self.verdicts)
            detail = f"node {self.node} cannot take it: {self.summary()}" if known else self.summary()
            return NothingFits(detail, verdicts=documents, node=self.node)
        return NothingFits(f"no node can take it: {self.summary()}", verdicts=documents)

    def _known(self) -> str:
        names = [verdict.node for verdict in self.verdicts]
        more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
        return f"there are: {', '.join(names[:MOST_NAMED])}{more}" if names else "there is none yet"

    def _of(self, name: str) -> Verdict:
        return next(verdict for verdict in self.verdicts if verdict.node == name)
