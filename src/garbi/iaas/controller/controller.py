"""One controller: its parts, put together, and their life from start to close."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from dataclasses import dataclass

from garbi.base.audit import CONFIRM_S, Auditing, Violation, confirmed
from garbi.base.errors import NotLeading
from garbi.base.tally import Tally
from garbi.iaas.controller.audit import Audit
from garbi.iaas.controller.backups import Backups
from garbi.iaas.controller.images import Images
from garbi.iaas.controller.machines import Machines
from garbi.iaas.controller.nodes import Nodes
from garbi.iaas.controller.operations import Operations
from garbi.iaas.leadership import Leadership
from garbi.iaas.loops.foresight import WhatIf
from garbi.iaas.loops.work import Work
from garbi.iaas.model.event import Event
from garbi.iaas.nodes import NodeClients
from garbi.iaas.settings import Settings
from garbi.iaas.store.database import Database
from garbi.iaas.workflows.feed import EventFeed
from garbi.storage.copies import Copying
from garbi.storage.notices import Notices

PATIENCE_S = 10.0
"""How long closing waits for what hangs on the database."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What a controller is made of; `main` builds it."""

    settings: Settings
    cluster_id: str
    secret: str
    database: Database
    clients: NodeClients
    leadership: Leadership
    notices: Notices[Event] | None
    work: Work
    events: EventFeed
    nodes: Nodes
    images: Images
    machines: Machines
    operations: Operations
    audit: Audit
    auditing: Auditing
    backups: Backups
    copying: Copying
    tally: Tally
    locks: ExitStack


class Controller:
    """The controller of a cloud. Its members hold the verbs; `close` lets every machine run on."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self.settings = parts.settings
        self.cluster_id = parts.cluster_id
        self.secret = parts.secret
        self.events = parts.events
        self.backups = parts.backups
        self.nodes = parts.nodes
        self.images = parts.images
        self.machines = parts.machines
        self.operations = parts.operations
        self.auditing = parts.auditing
        self.tally = parts.tally
        self.leadership = parts.leadership
        self._closed = threading.Event()
        try:
            if parts.notices is not None:
                parts.notices.start()
            parts.leadership.start(parts.work.begin, parts.work.end)
        except BaseException:
            self.close()
            raise

    def audit(self) -> list[Violation]:
        """The invariants that do not hold; none in a healthy cloud. What is in motion gets a second to come to rest."""
        return confirmed(self._parts.audit.run, CONFIRM_S)

    def what_if(self, node: str) -> WhatIf:
        """What would follow if a node died now; nothing is changed. Raises NotFound; NotLeading: who leads knows the leases."""
        found = self._parts.work.foresee(node)
        if found is None:
            self.leadership.require("to know what would follow")
            raise NotLeading("this controller is about to lead, or to end: ask again")
        return found

    def unwritable(self) -> str:
        """Why nothing can be written on the disk of the controller; empty when it can."""
        return self._parts.database.unwritable()

    def healthy(self) -> bool:
        """Whether the controller works: it is open, and its database answers and was not found damaged."""
        if self._closed.is_set() or self._parts.database.damage is not None or self.unwritable():
            return False
        self.events.last_seq()
        return True

    def close(self) -> None:
        """Stop working. Machines keep running; what was begun is taken up at the next start."""
        if self._closed.is_set():
            return
        self._closed.set()
        parts = self._parts
        with parts.locks:  # given back, and the database closed, however the rest goes
            parts.copying.stop()
            parts.work.close()
            if parts.notices is not None:
                parts.notices.stop()
            parts.clients.close()
            parts.events.let_go()
            parts.leadership.stop(PATIENCE_S)
            parts.copying.join(PATIENCE_S)
            if parts.notices is not None:
                parts.notices.join(PATIENCE_S)
