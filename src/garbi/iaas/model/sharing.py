"""Nodes that share one host, which several agents may each promise as a whole: what is left of it for all of them together.

They are those whose agents tell the same boot id. Where their limits of memory add up to no more than the host has, it was
divided on purpose, and each has its part. Disk is one where the agents see one file system: of the same size, to the MiB.
The database holds the same rule (`garbi.iaas.store.nodes.reserve`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from garbi.iaas.model.node import Amounts, Node

WITHOUT_END = 2**62


@dataclass(frozen=True, slots=True)
class Shared:
    """The nodes beside one on its host, and what of the host may still be reserved on any of them."""

    beside: tuple[str, ...]
    free: Amounts


def share_hosts(nodes: Iterable[Node]) -> dict[str, Shared]:
    """What is so of each node that has its host not to itself, by its name."""
    hosts: dict[str, list[Node]] = defaultdict(list)
    for node in nodes:
        if node.boot_id:
            hosts[node.boot_id].append(node)
    return {node.name: _shared(node, there) for there in hosts.values() if len(there) > 1 for node in there}


def _shared(node: Node, there: Sequence[Node]) -> Shared:
    divided = sum(each.has.mem for each in there) <= node.host_mem
    disks = [each for each in there if each.has.disk == node.has.disk]
    free = Amounts(
        mem=WITHOUT_END if divided else _free(there, "mem"), cpus=_free(there, "cpus"), disk=_free(disks, "disk")
    )
    return Shared(tuple(sorted(each.name for each in there if each is not node)), free)


def _free(nodes: Sequence[Node], key: str) -> int:
    most: int = max(getattr(each.limit, key) for each in nodes)
    return most - sum(int(getattr(each.reserved, key)) for each in nodes)
