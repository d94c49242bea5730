"""What the scheduler is asked, and what it knows of each node when it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from garbi.hyper_api.vocabulary import Protocol, PublishedPort
from garbi.iaas.model.machine import Strategy
from garbi.iaas.model.node import Amounts, Node
from garbi.iaas.model.sharing import Shared


@dataclass(frozen=True, slots=True)
class Ask:
    """What a machine needs of its node.

    `architecture` None: any. `node` is the one that the user named. `require` are labels that the node must have. `apart` is a
    label of the machine, as key and value: no other machine with that label may be on its node.
    """

    type: str
    amounts: Amounts
    architecture: str | None = None
    node: str | None = None
    ports: tuple[PublishedPort, ...] = ()
    require: Mapping[str, str] = field(default_factory=dict)
    apart: tuple[str, str] | None = None
    strategy: Strategy = Strategy.SPREAD


@dataclass(frozen=True, slots=True)
class Candidate:
    """A node as it stands.

    `running` counts the machines placed there that run or are to run. `taken_ports` says who has each published port, in words
    (`machine web`). `apart_values` are the values that machines there have of the label that `Ask.apart` names.
    `shared` tells what is left of a host that the node does not have to itself.
    """

    node: Node
    running: int = 0
    taken_ports: Mapping[tuple[Protocol, int], str] = field(default_factory=dict)
    apart_values: frozenset[str] = frozenset()
    shared: Shared | None = None

    @property
    def free(self) -> Amounts:
        """What may still be reserved there, by the node's own account and by that of its host."""
        own = self.node.free
        if self.shared is None:
            return own
        host = self.shared.free
        return Amounts(min(own.mem, host.mem), min(own.cpus, host.cpus), min(own.disk, host.disk))
