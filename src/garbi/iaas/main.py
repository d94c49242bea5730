"""Puts one controller together from its settings, and serves it."""

from __future__ import annotations

import secrets as random
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from garbi.base import logs
from garbi.base.boot import boot_id
from garbi.base.clock import Clock, SystemClock
from garbi.base.disks import kind_of
from garbi.base.errors import FinalError, UnknownImage
from garbi.base.failpoints import reach
from garbi.base.http import Transport
from garbi.base.tally import Tally
from garbi.base.token import Secret, keep_secret, open_secret
from garbi.content.uploads import ContentLimits
from garbi.iaas.controller import Controller
from garbi.iaas.controller.audit import Audit
from garbi.iaas.controller.backups import Backups
from garbi.iaas.controller.controller import Parts
from garbi.iaas.controller.images import Images
from garbi.iaas.controller.machines import Machines
from garbi.iaas.controller.nodes import Nodes
from garbi.iaas.controller.operations import Operations
from garbi.iaas.controller.placement import Placement
from garbi.iaas.fences.agent import AgentFence
from garbi.iaas.fences.lease import LeaseBook, LeaseFence, Lessor
from garbi.iaas.fences.power import PowerFence
from garbi.iaas.fences.protocol import Fence, Fences
from garbi.iaas.fences.ssh import SshFence
from garbi.iaas.imagestore import Distribution, ImageStore
from garbi.iaas.leadership import Leadership, Mandate, Office
from garbi.iaas.leadership.restore import Restore
from garbi.iaas.loops.auditing import regular
from garbi.iaas.loops.converger import Converger
from garbi.iaas.loops.failover import Failover, FailoverParts
from garbi.iaas.loops.foresight import Foresight, ForesightParts
from garbi.iaas.loops.hindsight import Hindsight
from garbi.iaas.loops.records import Records
from garbi.iaas.loops.replanning import Replanning, ReplanningParts
from garbi.iaas.loops.runner import OperationRunner
from garbi.iaas.loops.silence import Silences
from garbi.iaas.loops.tombstones import TombstoneParts, Tombstones
from garbi.iaas.loops.watchers import Roster, Watchers
from garbi.iaas.loops.watching import Watching
from garbi.iaas.loops.work import Loop, Loops, Work
from garbi.iaas.model.event import Event, Subject
from garbi.iaas.model.image import Image
from garbi.iaas.model.machine import Machine, Strategy
from garbi.iaas.model.node import NodeState
from garbi.iaas.model.operation import OperationKind
from garbi.iaas.nodes import NodeClients
from garbi.iaas.settings import Settings
from garbi.iaas.store import events, meta, secrets, tombstones
from garbi.iaas.store.database import Database
from garbi.iaas.store.images import ImageTable
from garbi.iaas.store.migrate import WAY_ON, migrate
from garbi.iaas.workflows.add_node import AddNode
from garbi.iaas.workflows.drain import Drain
from garbi.iaas.workflows.feed import EventFeed, open_feed
from garbi.iaas.workflows.hosts import Hosts
from garbi.iaas.workflows.remove_node import RemoveNode
from garbi.iaas.workflows.steps import Workflow
from garbi.storage.ballast import Ballast
from garbi.storage.copies import Copying
from garbi.storage.engine import LEADERS, is_sqlite, path_of
from garbi.storage.identity import keep_identity, read_identity
from garbi.storage.lock import LOCK_FILE, FileLock
from garbi.storage.notices import Notices
from garbi.storage.session_lock import SessionLock

WHO = "controller"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a controller meets outside of itself; a simulation brings its own.

    `transports` carry requests to nodes, by their URLs. `fences` are the proofs that a host is dead, in the order in which they
    are tried, before the end of its lease. `holder` tells this controller from those before and after it. `restored`: the
    database is a backup, and the operator says that nodes may know better. `boot_id` is that of the controller's host.
    """

    clock: Clock
    transports: Callable[[str], Transport] | None
    fences: Sequence[Fence] | None
    holder: str
    restored: bool = False
    boot_id: str = ""


def open_controller(
    settings: Settings,
    clock: Clock | None = None,
    *,
    transports: Callable[[str], Transport] | None = None,
    fences: Sequence[Fence] | None = None,
    holder: str | None = None,
    after_restore: bool = False,
) -> Controller:
    """Open the data directory and the database, take up what was begun, and begin to work.

    `after_restore`: learn first from the nodes what the database, a backup, does not know; see `leadership.restore`. Raises
    DataDirLocked when another controller has it, NoSpace, DatabaseUnavailable, or FinalError when the directory cannot be used.
    """
    who = holder or random.token_hex(16)
    around = Surroundings(clock or SystemClock(), transports, fences, who, after_restore, boot_id())
    _make_data_dir(settings.data_dir)
    with ExitStack() as locks:
        _lock(settings, locks)
        return Controller(_build(settings, around, locks.pop_all()))


def _lock(settings: Settings, locks: ExitStack) -> None:
    """Keep others from the directory, and from an SQLite file elsewhere: it is for one controller."""
    locks.callback(FileLock(settings.data_dir / LOCK_FILE, settings.data_dir, WHO).release)
    if is_sqlite(settings.database_url):
        path = path_of(settings.database_url).resolve()
        if path.parent != settings.data_dir.resolve():
            locks.callback(FileLock(path.with_name(path.name + ".lock"), path, WHO).release)


def _make_data_dir(path: Path) -> None:
    """Others may pass through the directory (an NFS server reads images there), but not list it."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(0o711)
        Ballast(path).balance()
    except OSError as error:
        raise kind_of(error, FinalError)(
            f"the data directory {path} cannot be made: {error.strerror}; choose another with --data-dir"
        ) from error


def _build(settings: Settings, around: Surroundings, locks: ExitStack) -> Parts:
    with locks:  # given back when anything fails
        clock = around.clock
        backups = Backups(settings, clock)
        _refuse_lost_database(settings)
        migrate(settings.database_url, backups.copies.make_before)
        database = Database(settings.database_url, settings.data_dir)
        locks.callback(database.close)
        reach("controller.open.migrated")
        cluster_id = meta.get_or_set(database, meta.CLUSTER_ID, random.token_hex(16))
        secret = _open_secret(settings, database)
        if is_sqlite(settings.database_url):
            keep_identity(settings.data_dir, cluster_id)
        reach("controller.open.named")
        feed = open_feed(database)
        clients = _clients(settings, around, database)
        feed.subscribe(lambda event: _forget_stranger(clients, event))
        leadership = _open_leadership(settings, around, database, cluster_id, clients)
        table = ImageTable(database.under(leadership.check), clock)
        limits = ContentLimits(settings.max_image_bytes, settings.max_virtual_bytes)
        store = ImageStore(settings.image_directory, table, limits, clock)
        placement = Placement(database, settings, clock=clock)
        tally = Tally()
        audit = Audit(cluster_id, database, clients, store, settings.data_dir, lambda: leadership.leads)
        auditing = regular(audit.run, database.under(leadership.check), clock, settings.audit_period_s)
        work = Work(database, _Maker(settings, around, database, feed, store, table, tally, (auditing,)), clock)
        return Parts(
            settings=settings,
            cluster_id=cluster_id,
            secret=secret,
            database=database,
            clients=clients,
            leadership=leadership,
            notices=_open_notices(settings, around, database, feed, work),
            work=work,
            events=feed,
            nodes=Nodes(database, work, clock, _agents(settings, database)),
            images=Images(store, database, leadership.require),
            machines=Machines(database, placement, work, clients, feed, clock, tally),
            operations=Operations(database, feed, clock),
            audit=audit,
            auditing=auditing,
            backups=backups,
            copying=Copying(backups.copies),
            tally=tally,
            locks=locks.pop_all(),
        )


def _refuse_lost_database(settings: Settings) -> None:
    """A controller that began anew would know nothing of its nodes; raises FinalError when its file is gone, or empty."""
    known = read_identity(settings.data_dir)
    if known is None or not is_sqlite(settings.database_url):
        return
    path = path_of(settings.database_url)
    lost = "missing" if not path.exists() else "empty" if path.stat().st_size == 0 else None
    if lost is not None:
        raise FinalError(
            f"the database {path} of cloud {known[:8]} is {lost}, nothing was changed: {WAY_ON}; who wants a new cloud "
            "gives it an empty directory"
        )


def _open_secret(settings: Settings, database: Database) -> Secret:
    """The token of this controller; on PostgreSQL that of all of them, so that a client may ask any."""
    own = open_secret(settings.data_dir)
    if is_sqlite(settings.database_url):
        return own
    common = Secret(meta.get_or_set(database, meta.TOKEN, own))
    if common != own:
        keep_secret(settings.data_dir, common)
    return common


def _clients(
    settings: Settings, around: Surroundings, database: Database, mandate: Mandate | None = None
) -> NodeClients:
    kept = settings.workers + 4
    return NodeClients(lambda name: _secret_of(database, name), kept, around.transports, mandate)


def _forget_stranger(clients: NodeClients, event: Event) -> None:
    """Who has the name of a node from now on may have another secret."""
    anew = event.state == NodeState.ADDING or event.kind in (events.Kind.REMOVED, events.Kind.CHANGED)
    if event.subject is Subject.NODE and anew:
        clients.forget(event.id)


def _open_leadership(
    settings: Settings, around: Surroundings, database: Database, cluster_id: str, clients: NodeClients
) -> Leadership:
    url = settings.database_url
    lock = None if is_sqlite(url) else SessionLock(url, LEADERS, around.clock)
    restore = Restore(database, clients, cluster_id, around.clock, 2 * settings.check_period_s + 1)
    first = restore.catch_up if around.restored else None
    return Leadership(database, Office(cluster_id, around.holder), around.clock, lock, first)


def _open_notices(
    settings: Settings, around: Surroundings, database: Database, feed: EventFeed, work: Work
) -> Notices[Event] | None:
    """What carries events to and from other controllers; there are none on SQLite."""
    if is_sqlite(settings.database_url):
        return None
    return Notices(database, feed, random.token_hex(8), work.hear, around.clock)


@dataclass(frozen=True, slots=True)
class _Maker:
    """Makes the loops of a mandate; whatever they write, they write only while it lasts."""

    settings: Settings
    around: Surroundings
    database: Database
    feed: EventFeed
    store: ImageStore
    table: ImageTable
    tally: Tally
    others: tuple[Loop, ...]

    def __call__(self, mandate: Mandate) -> Loops:
        settings, clock = self.settings, self.around.clock
        self.store.sweep()
        reach("controller.open.swept")
        database = self.database.under(mandate.check)
        clients = _clients(settings, self.around, database, mandate)
        records = Records(database, clock)
        converger = Converger(
            mandate.controller_id,
            records,
            clients,
            Distribution(self.store, settings),
            lambda machine: _image_of(self.table, machine),
            clock,
            settings.workers,
        )
        book = LeaseBook(database, clock, self._lessor(mandate))
        stirred = threading.Event()
        silences = Silences(clock)
        roster = Roster(database, clock, settings.check_period_s / 3, silences)
        watching = Watching(
            mandate.controller_id,
            database,
            clients,
            converger,
            records,
            clock,
            settings.check_period_s,
            settings.unreachable_after_s,
            book,
            roster,
            stirred.set,
            lambda: mandate.leads,
        )
        watchers = Watchers(watching)
        asked = (watchers.watch, watchers.unwatch, watchers.renew)
        hosts = Hosts(settings, database, clients, self.feed, clock, *asked, mandate.controller_id)
        placement = Placement(database, settings, clock=clock)
        tombs = Tombstones(TombstoneParts(mandate.controller_id, database, self._grave_clients(mandate), clock, book))
        workflows = _workflows(hosts, placement, converger, tombs.wake)
        runner = OperationRunner(database, workflows, clock, settings.provision_parallel)
        converger.on_stranded(stirred.set)
        wake, heard_since = converger.wake, watchers.heard_since
        strategy, hindsight = Strategy(settings.strategy), self._hindsight(mandate, clients, records, heard_since)
        replanning = Replanning(ReplanningParts(database, records, clock, strategy, wake, heard_since, hindsight))
        fences = Fences((*self._fences(mandate), LeaseFence(book, clock)), self.tally, book.rival)
        grace_s = settings.unreachable_after_s
        parts = FailoverParts(database, clock, fences, replanning, wake, heard_since, grace_s, silences)
        others: tuple[Loop, ...] = (Failover(parts, stirred), tombs, *self.others)
        return Loops(clients, converger, watchers, runner, _foresight(parts), others)

    def _hindsight(
        self, mandate: Mandate, clients: NodeClients, records: Records, heard_since: Callable[[str, float], bool]
    ) -> Hindsight:
        with self.database.read() as connection:
            lossy = not is_sqlite(self.settings.database_url) or bool(meta.get(connection, meta.DOUBTED))

        def has_answered(name: str) -> bool:
            return heard_since(name, float("-inf"))

        made = Hindsight(self.database, clients, mandate.controller_id, has_answered, lossy=lossy)
        records.on_vacated(made.note)
        return made

    def _grave_clients(self, mandate: Mandate) -> NodeClients:
        """The way to agents whose nodes were removed, by their cluster ids."""

        def secret_of(cluster_id: str) -> str | None:
            with self.database.read() as connection:
                return tombstones.secret_of(connection, cluster_id)

        return NodeClients(secret_of, transports=self.around.transports, authority=mandate)

    def _lessor(self, mandate: Mandate) -> Lessor:
        key = meta.get_or_set(self.database, meta.WITNESS_KEY, random.token_hex(32))
        ttl_s, margin_s = self.settings.lease_ttl_s, self.settings.lease_margin_s
        return Lessor(mandate.controller_id, mandate.holder, mandate.term, key, ttl_s, margin_s, self.around.boot_id)

    def _fences(self, mandate: Mandate) -> Sequence[Fence]:
        """What proves that a host is dead, before its lease does."""
        if self.around.fences is not None:
            return self.around.fences
        settings = self.settings
        power = PowerFence(settings.power_command, settings.power_limit_s)
        return SshFence(mandate.controller_id, settings.data_dir), _agents(settings, self.database), power


def _foresight(parts: FailoverParts) -> Foresight:
    """What knows beforehand what the failover would do with the same parts."""
    return Foresight(ForesightParts(parts.database, parts.fences, parts.replanning, parts.silences, parts.grace_s))


def _workflows(
    hosts: Hosts, placement: Placement, converger: Converger, ask: Callable[[], None]
) -> dict[OperationKind, Workflow]:
    return {
        OperationKind.NODE_ADD: AddNode(hosts),
        OperationKind.NODE_REMOVE: RemoveNode(hosts, converger.wake, converger.dismiss, ask),
        OperationKind.NODE_DRAIN: Drain(hosts, placement, converger.hands.holding, converger.wake),
    }


def _agents(settings: Settings, database: Database) -> AgentFence:
    """What runs the fence agents that nodes were given."""

    def secrets_of(name: str) -> dict[str, str]:
        with database.read() as connection:
            return secrets.power_of(connection, name)

    return AgentFence(Path(settings.fence_dir), secrets_of, settings.power_limit_s)


def _secret_of(database: Database, name: str) -> str | None:
    with database.read() as connection:
        return secrets.get(connection, name)


def _image_of(table: ImageTable, machine: Machine) -> Image:
    image = table.get(machine.image)
    if image is None or image.sha256 != machine.image_sha256:
        raise UnknownImage("image", f"image {machine.image} is here no more")
    return image


def serve(
    host: str | None = None,
    port: int | None = None,
    data_dir: Path | None = None,
    database: str | None = None,
    *,
    after_restore: bool = False,
) -> None:
    """Serve one controller over REST until SIGTERM or SIGINT; machines keep running. See `open_controller`."""
    from garbi.iaas.rest.server import run

    settings = Settings.from_environment(host=host, port=port, data_dir=data_dir, database=database)
    logs.configure()
    controller = open_controller(settings, after_restore=after_restore)
    try:
        run(controller, settings.host, settings.port)
    finally:
        controller.close()
