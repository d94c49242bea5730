"""Nodes, as a user asks for them: what is refused, what is written down, and which operation does the rest."""

from __future__ import annotations

from collections.abc import Mapping

from garbi.iaas.model.node import Node, NodeSpec


class Nodes:
    """The verbs of nodes. What takes time is an operation: it has begun when a verb returns, and the node names it."""

    def add(self, spec: NodeSpec, token: str | None = None) -> Node:
        """Begin to make a host a node, or to try a failed one again at the same address.

        `token` is that of the agent on a host that is not provisioned. Raises InvalidField, AlreadyExists.
        """
        raise NotImplementedError

    def get(self, name: str) -> Node:
        """The node of that name; raises NotFound."""
        raise NotImplementedError

    def list(
        self, filters: Mapping[str, str] | None = None, limit: int | None = None, marker: str | None = None
    ) -> list[Node]:
        """The nodes whose fields equal the filters, by name; raises UnknownFilter."""
        raise NotImplementedError

    def remove(self, name: str, force: bool = False) -> Node:
        """Begin to remove a node; with `force` its machines go first. Raises NotFound, Conflict, which names machines."""
        raise NotImplementedError

    def drain(self, name: str) -> Node:
        """Give a node nothing new, and begin to move or stop what is there; raises NotFound, Conflict."""
        raise NotImplementedError

    def undrain(self, name: str) -> Node:
        """Let a node take machines again; raises NotFound, Conflict."""
        raise NotImplementedError

    def confirm_dead(self, name: str) -> Node:
        """Take the operator's word that an unreachable node is dead: its machines failed. Raises NotFound, Conflict."""
        raise NotImplementedError

    def machines_on(self, name: str) -> int:
        """How many machines are on a node."""
        raise NotImplementedError
