"""One agent: its parts, put together, and their life from start to close."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace

from garbi.base.audit import CONFIRM_S, Auditing, Violation, confirmed
from garbi.base.tally import Tally
from garbi.base.token import Secret
from garbi.hyper.agent.audit import Audit
from garbi.hyper.agent.departure import Departure
from garbi.hyper.agent.events import EventFeed, NewestEvent
from garbi.hyper.agent.images import Images
from garbi.hyper.agent.kept import KeptDisks
from garbi.hyper.agent.machines import Machines
from garbi.hyper.drivers.protocol import DriverInfo
from garbi.hyper.drivers.registry import DriverRegistry, abilities
from garbi.hyper.host.report import report_host
from garbi.hyper.leases.leases import Leases
from garbi.hyper.loops.converger import Converger
from garbi.hyper.loops.keeping import Keeping
from garbi.hyper.loops.publisher import Publisher
from garbi.hyper.model.capacity import Capacity
from garbi.hyper.settings import Settings
from garbi.hyper.store.database import Database
from garbi.hyper_api.host import HostReport
from garbi.storage.copies import Copying
from garbi.storage.engine import path_of
from garbi.storage.lock import DataDirLock

PATIENCE_S = 10.0
"""How long closing waits for steps under way; one that takes longer is taken again at the next start."""


@dataclass(frozen=True, slots=True)
class DriverStatus:
    """A driver as users see it: what it says of itself, what it can do, which images it takes."""

    info: DriverInfo
    abilities: list[str]
    image_types: list[str]


@dataclass(frozen=True, slots=True)
class Parts:
    """What an agent is made of; `main` builds it."""

    settings: Settings
    cluster_id: str
    secret: Secret
    database: Database
    drivers: DriverRegistry
    publisher: Publisher
    converger: Converger
    events: EventFeed
    images: Images
    machines: Machines
    kept: KeptDisks
    keeping: Keeping
    copying: Copying
    leases: Leases
    audit: Audit
    auditing: Auditing
    tally: Tally
    capacity: Capacity
    lock: DataDirLock
    simulated: bool


class Agent:
    """The agent of one host. Its parts hold the verbs; `close` lets everything run on."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self.settings = parts.settings
        self.cluster_id = parts.cluster_id
        self.secret = parts.secret
        self.machines = parts.machines
        self.images = parts.images
        self.kept = parts.kept
        self.leases = parts.leases
        self.events = parts.events
        self.drivers = parts.drivers
        self.capacity = parts.capacity
        self.auditing = parts.auditing
        self.converger = parts.converger
        self.tally = parts.tally
        self.departure = Departure(lambda: {each.lease.controller for each in self.leases.all() if each.active})
        self._newest = NewestEvent(parts.events)
        self._closed = threading.Event()
        parts.leases.start()
        parts.converger.start()
        parts.keeping.start()
        parts.copying.start()
        parts.auditing.start()

    def list_drivers(self) -> list[DriverStatus]:
        """Every installed driver, usable or not."""
        return [self.driver(name) for name in self.drivers.names()]

    def driver(self, name: str) -> DriverStatus:
        """One driver; raises UnknownType."""
        info = self.drivers.info(name)
        loaded = self.drivers.find(name)
        if loaded is None:
            return DriverStatus(info, [], [])
        return DriverStatus(info, abilities(loaded), sorted(loaded.image_types))

    def host(self) -> HostReport:
        """What this host has, and what of it is in use."""
        report = report_host(self.settings.data_dir)
        if self._parts.simulated:  # it pretends to have a host to itself
            return replace(report, boot_id=f"{report.boot_id}-{self.cluster_id[:8]}")
        return report

    @property
    def last_event(self) -> int:
        """The number of the newest event, without a look into the database."""
        return self._newest.seq

    def audit(self) -> list[Violation]:
        """The invariants that do not hold; none on a healthy host. What is in motion gets a second to come to rest."""
        return confirmed(self._parts.audit.run, CONFIRM_S)

    def database_bytes(self) -> int:
        """How large the database is, with its journal."""
        path = path_of(self._parts.database.url)
        files = (path, path.with_name(path.name + "-wal"))
        return sum(file.stat().st_size for file in files if file.exists())

    def unwritable(self) -> str:
        """Why nothing can be written on the disk of the data directory; empty when it can."""
        return self._parts.database.unwritable()

    def healthy(self) -> bool:
        """Whether the agent works: it is open, and its database answers and was not found damaged."""
        if self._closed.is_set() or self._parts.database.damage is not None or self.unwritable():
            return False
        self.events.last_seq()
        return True

    def close(self) -> None:
        """Stop working. Machines keep running, ports stay published."""
        if self._closed.is_set():
            return
        self._closed.set()
        try:
            self._parts.leases.stop()
            self._parts.auditing.stop()
            self._parts.keeping.stop()
            self._parts.copying.stop()
            self._parts.converger.stop()
            self.drivers.close()
            self._parts.converger.join(PATIENCE_S)
            self._parts.keeping.join(PATIENCE_S)
            self._parts.copying.join(PATIENCE_S)
            self._parts.auditing.join(PATIENCE_S)
            self._parts.publisher.close()
            self._parts.database.close()
        finally:
            self._parts.lock.release()
