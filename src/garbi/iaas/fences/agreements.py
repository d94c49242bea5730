"""What a node agreed to with its lease, as it is written down for a controller that takes over."""

from __future__ import annotations

import json

from garbi.iaas.model.node import Node
from garbi.iaas.monitor.lease import Ledger, recalled


def lengths_of(ledger: Ledger) -> tuple[float, float]:
    """The shortest and the longest that the lease may be."""
    return ledger.shortest_s, ledger.longest_s


def agreement_of(node: Node, ledger: Ledger) -> str:
    """What is written of a node whose lease ends by itself."""
    lengths = {"shortest_s": ledger.shortest_s, "longest_s": ledger.longest_s}
    return json.dumps({"cluster_id": node.cluster_id, "peers": sorted(ledger.peers), **lengths})


def recall(record: str | None, node: Node, now: float) -> Ledger | None:
    """What a node agreed to with an earlier controller; None when it did not, or was another's, or how long is not written."""
    if not record:
        return None
    values = json.loads(record)
    if values["cluster_id"] != node.cluster_id or "longest_s" not in values:
        return None
    return recalled(now, frozenset(values["peers"]), float(values["shortest_s"]), float(values["longest_s"]))
