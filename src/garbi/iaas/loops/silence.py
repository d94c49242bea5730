"""Since when nodes are silent, and who of them fell silent with whom: for the failover, and for whom nodes are told to ask."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from garbi.base.clock import Clock
from garbi.iaas.model.node import Node, NodeState
from garbi.iaas.monitor.failover import Condition
from garbi.iaas.monitor.verdict import SILENT


@dataclass(frozen=True, slots=True)
class _Since:
    """A state of a node, since when it has it, and since when it says nothing; moments of the monotonic clock."""

    state: NodeState
    began: float
    silent: float | None


class Silences:
    """What is known of the silence of nodes.

    It is counted here, as clocks that people set may jump. Of a node that was silent already when this controller began, the
    time of day at which it was last heard is all there is.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[str, _Since] = {}

    def conditions(self, nodes: Iterable[Node]) -> list[Condition]:
        """The conditions of all nodes, as they are now; who is not among them is forgotten."""
        now = self._clock.monotonic()
        with self._lock:
            self._known = {node.name: self._follow(node, now) for node in nodes}
            return _told(self._known, now)

    def peek(self, nodes: Iterable[Node]) -> list[Condition]:
        """The same conditions, without taking note of anything."""
        now = self._clock.monotonic()
        with self._lock:
            return _told({node.name: self._follow(node, now) for node in nodes}, now)

    def _follow(self, node: Node, now: float) -> _Since:
        before = self._known.get(node.name)
        if node.state not in SILENT:
            silent = None
        elif before is None:
            heard_s = (self._clock.now() - (node.seen_at or node.created_at)).total_seconds()
            silent = now - max(heard_s, 0.0)
        else:
            silent = now if before.silent is None else before.silent
        began = before.began if before is not None and before.state is node.state else now
        return _Since(node.state, began, silent)


def _told(known: Mapping[str, _Since], now: float) -> list[Condition]:
    return [
        Condition(name, each.state, now - each.began, None if each.silent is None else now - each.silent)
        for name, each in known.items()
    ]
