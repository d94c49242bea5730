"""What is left of a node that was removed by force while its host was silent: whom to ask, and what to remove there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from garbi.iaas.model.node import Amounts, Load, Node, NodeState, Overcommit, Ssh

LIFE = timedelta(days=30)
"""How long a host that was silent is asked whether it is back."""


@dataclass(frozen=True, slots=True)
class Tombstone:
    """A node that is gone, by the cluster id of its agent.

    `machines` are those that were removed with it, by their ids with the epochs of their assignments; `may_run` names those of
    which nobody had proven that they run no more. `said` is what became of the last attempt to ask.
    """

    cluster_id: str
    name: str
    host: str
    port: int
    lease: int
    machines: Mapping[str, int]
    may_run: tuple[str, ...]
    said: str
    removed_at: datetime
    secret: str = field(default="", repr=False)

    @property
    def address(self) -> str:
        """Where its hyper listened."""
        return self.as_node().address

    @property
    def until(self) -> datetime:
        """When it is asked no more."""
        return self.removed_at + LIFE

    def as_node(self) -> Node:
        """The node that it was, as far as orders to it need that; its name is the cluster id, which no node has."""
        nothing = Amounts()
        return Node(
            name=self.cluster_id, host=self.host, port=self.port, provision=False, ssh=Ssh(), labels={},
            overcommit=Overcommit(), state=NodeState.REMOVING, reason="", draining=False, has=nothing, limit=nothing,
            reserved=nothing, load=Load(), architecture="", drivers=(), versions={}, cluster_id=self.cluster_id, boot_id="",
            epoch=0, operation=None, seen_at=None, created_at=self.removed_at, updated_at=self.removed_at, lease=self.lease,
        )  # fmt: skip
