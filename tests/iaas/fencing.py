"""Fences for the tests: they do on a host with fake machines what real ones do on a real host."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from garbi.hyper.drivers.fake import FakeWorld
from garbi.hyper.leases.files import LeaseFiles
from garbi.hyper.settings import runtime_of
from garbi.iaas.fences.protocol import Outlook, Proof, Scope
from garbi.iaas.model.node import Node


@dataclass(frozen=True, slots=True)
class KillMachines:
    """Ends the lease on a host and what runs under it, as `hyper fence` does, whatever the agent is doing.

    `places` are the data directories of the agents, by the names of their nodes.
    """

    places: Mapping[str, Path]
    controller_id: str
    scope: Scope = Scope.RECREATABLE
    name: str = "rescue"

    def applies_to(self, node: Node) -> str | None:
        return None

    def outlook(self, node: Node) -> Outlook:
        return Outlook(self.scope, 1.0)

    def prove(self, node: Node, cancelled: threading.Event) -> Proof:
        self.stop(node.name, node.lease)
        return Proof(self.name, self.scope, "every machine was stopped")

    def stop(self, name: str, number: int) -> None:
        """End the lease of that number; a machine whose id begins with `stay` runs on, unless the whole host is meant."""
        LeaseFiles(self.places[name], runtime_of(self.places[name])).fence(self.controller_id, number)
        world = FakeWorld.at(self.places[name] / "drivers" / "fake")
        for machine in world.machines():
            if machine.powered and not (self.scope is Scope.RECREATABLE and machine.id.startswith("stay")):
                world.kill(machine.id)
