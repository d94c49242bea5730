"""What the workflows on nodes have in common: where a node's records are, and how its host is reached."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from garbi.base.clock import Clock
from garbi.base.errors import NotFound, ProvisioningFailed
from garbi.iaas.model.node import Node
from garbi.iaas.nodes import NodeClients
from garbi.iaas.provisioning import STEPS_BEFORE_ANYTHING_CHANGES, Target, TaskProgress
from garbi.iaas.settings import Settings
from garbi.iaas.store import nodes, secrets
from garbi.iaas.store.database import Database
from garbi.iaas.workflows.feed import EventFeed
from garbi.iaas.workflows.steps import OnProgress

Provision = Callable[[Target, Callable[[TaskProgress], None], threading.Event, Path], tuple[str, ...]]
"""What makes a host a node, or the other way round."""


@dataclass(frozen=True, slots=True)
class Hosts:
    """The parts that every workflow on nodes uses. `watch` and `unwatch` take the name of a node; `renew` begins the
    lease of one, so that it takes orders; `controller_id` is the cloud's."""

    settings: Settings
    database: Database
    clients: NodeClients
    feed: EventFeed
    clock: Clock
    watch: Callable[[str], None]
    unwatch: Callable[[str], None]
    renew: Callable[[Node], None]
    controller_id: str

    def node(self, name: str) -> Node:
        """The node of that name; raises NotFound."""
        with self.database.read() as connection:
            node = nodes.find(connection, name)
        if node is None:
            raise NotFound(f"no node is called {name}")
        return node

    def provision(self, work: Provision, name: str, report: OnProgress, cancelled: threading.Event) -> tuple[str, ...]:
        """Run a playbook on the host of a node; returns what it noted for the user, raises ProvisioningFailed."""
        node = self.node(name)
        with self.database.read() as connection:
            token = secrets.get(connection, name) or ""
        share, use = self.settings.image_share, self.settings.image_use
        target = Target(node.name, node.host, node.port, node.ssh, token, share, use, node.live_restore, node.witness)

        def on_progress(progress: TaskProgress) -> None:
            if not node.touched and progress.step > STEPS_BEFORE_ANYTHING_CHANGES:
                self._touch(name)
            words = f"{progress.task} (task {progress.step} of {progress.steps})"
            report((progress.step - 1) / max(progress.steps, 1), words)

        notes = work(target, on_progress, cancelled, self.settings.data_dir)
        if cancelled.is_set():
            raise ProvisioningFailed("it was ended early", task="", host=node.host, words="")
        return notes

    def _touch(self, name: str) -> None:
        """From now on there is something on its host that has to be cleaned up."""
        with self.database.write() as transaction:
            nodes.note_touched(transaction, name)
