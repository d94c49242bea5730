"""One controller: its parts, put together, and their life from start to close."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from garbi.base.audit import CONFIRM_S, Auditing, Violation, confirmed
from garbi.base.tally import Tally
from garbi.iaas.controller.audit import Audit
from garbi.iaas.controller.images import Images
from garbi.iaas.controller.machines import Machines
from garbi.iaas.controller.nodes import Nodes
from garbi.iaas.controller.operations import Operations
from garbi.iaas.loops.converger import Converger
from garbi.iaas.loops.runner import OperationRunner
from garbi.iaas.loops.watchers import Watchers
from garbi.iaas.nodes import NodeClients
from garbi.iaas.settings import Settings
from garbi.iaas.store import machines
from garbi.iaas.store.database import Database
from garbi.iaas.workflows.feed import EventFeed
from garbi.storage.lock import DataDirLock

PATIENCE_S = 10.0
"""How long closing waits for steps under way; one that takes longer is taken again at the next start."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What a controller is made of; `main` builds it."""

    settings: Settings
    cluster_id: str
    secret: str
    database: Database
    clients: NodeClients
    converger: Converger
    watchers: Watchers
    runner: OperationRunner
    events: EventFeed
    nodes: Nodes
    images: Images
    machines: Machines
    operations: Operations
    audit: Audit
    auditing: Auditing
    tally: Tally
    lock: DataDirLock


class Controller:
    """The controller of a cloud. Its members hold the verbs; `close` lets every machine run on."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self.settings = parts.settings
        self.cluster_id = parts.cluster_id
        self.secret = parts.secret
        self.events = parts.events
        self.nodes = parts.nodes
        self.images = parts.images
        self.machines = parts.machines
        self.operations = parts.operations
        self.auditing = parts.auditing
        self.tally = parts.tally
        self._closed = threading.Event()
        self._start()

    def audit(self) -> list[Violation]:
        """The invariants that do not hold; none in a healthy cloud. What is in motion gets a second to come to rest."""
        return confirmed(self._parts.audit.run, CONFIRM_S)

    def healthy(self) -> bool:
        """Whether the controller works: it is open and its database answers."""
        if self._closed.is_set():
            return False
        self.events.last_seq()
        return True

    def close(self) -> None:
        """Stop working. Machines keep running; what was begun is taken up at the next start."""
        if self._closed.is_set():
            return
        self._closed.set()
        parts = self._parts
        try:
            for part in (parts.auditing, parts.runner, parts.watchers, parts.converger):
                part.stop()
            parts.clients.close()
            parts.events.let_go()
            for part in (parts.auditing, parts.runner, parts.watchers, parts.converger):
                part.join(PATIENCE_S)
            parts.database.close()
        finally:
            parts.lock.release()

    def _start(self) -> None:
        """Take up what was begun: machines that are not yet as they are wished, operations, the watch over the nodes."""
        with self._parts.database.read() as connection:
            unsettled = [machine for machine in machines.search(connection) if not machine.settled]
        for machine in unsettled:
            self._parts.converger.wake(machine)
        self._parts.watchers.start()
        self._parts.runner.start()
        self._parts.auditing.start()
