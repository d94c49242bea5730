"""Puts one controller together from its settings, and serves it."""

from __future__ import annotations

import secrets as random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from garbi.base import logs
from garbi.base.audit import Auditing
from garbi.base.clock import Clock, SystemClock
from garbi.base.errors import FinalError, NoSpace, UnknownImage
from garbi.base.failpoints import reach
from garbi.base.http import Transport
from garbi.base.tally import Tally
from garbi.base.token import open_secret
from garbi.content.uploads import ContentLimits
from garbi.iaas.controller import Controller
from garbi.iaas.controller.audit import Audit
from garbi.iaas.controller.controller import Parts
from garbi.iaas.controller.images import Images
from garbi.iaas.controller.machines import Machines
from garbi.iaas.controller.nodes import Nodes
from garbi.iaas.controller.operations import Operations
from garbi.iaas.controller.placement import Placement
from garbi.iaas.fences.protocol import Fence
from garbi.iaas.imagestore import Distribution, ImageStore
from garbi.iaas.loops.auditing import AuditRecord
from garbi.iaas.loops.converger import Converger
from garbi.iaas.loops.records import Records
from garbi.iaas.loops.runner import OperationRunner
from garbi.iaas.loops.watchers import Watchers
from garbi.iaas.loops.watching import Watching
from garbi.iaas.model.image import Image
from garbi.iaas.model.machine import Machine
from garbi.iaas.model.operation import OperationKind
from garbi.iaas.nodes import NodeClients
from garbi.iaas.settings import Settings
from garbi.iaas.store import meta, secrets
from garbi.iaas.store.database import Database
from garbi.iaas.store.images import ImageTable
from garbi.iaas.store.migrate import migrate
from garbi.iaas.workflows.add_node import AddNode
from garbi.iaas.workflows.drain import Drain
from garbi.iaas.workflows.feed import open_feed
from garbi.iaas.workflows.hosts import Hosts
from garbi.iaas.workflows.remove_node import RemoveNode
from garbi.iaas.workflows.steps import Workflow
from garbi.storage.ballast import Ballast
from garbi.storage.lock import DataDirLock

IMAGES = "images"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a controller meets outside of itself; a simulation brings its own.

    `transports` carry requests to nodes, by their URLs. `fences` are the proofs that a host is dead, in the order in which they
    are tried. `holder` tells this controller from those before and after it.
    """

    clock: Clock
    transports: Callable[[str], Transport] | None
    fences: Sequence[Fence] | None
    holder: str


def open_controller(
    settings: Settings,
    clock: Clock | None = None,
    *,
    transports: Callable[[str], Transport] | None = None,
    fences: Sequence[Fence] | None = None,
    holder: str | None = None,
) -> Controller:
    """Open the data directory and the database, take up what was begun, and begin to work.

    Raises DataDirLocked when another controller has it, NoSpace, DatabaseUnavailable, or FinalError when the directory cannot
    be used.
    """
    around = Surroundings(clock or SystemClock(), transports, fences, holder or random.token_hex(16))
    _make_data_dir(settings.data_dir)
    lock = DataDirLock(settings.data_dir)
    try:
        return Controller(_build(settings, around, lock))
    except BaseException:
        lock.release()
        raise


def _make_data_dir(path: Path) -> None:
    """Others may pass through the directory (an NFS server reads images there), but not list it."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(0o711)
        Ballast(path).balance()
    except OSError as error:
        kind = NoSpace if error.errno == 28 else FinalError
        raise kind(
            f"the data directory {path} cannot be made: {error.strerror}; choose another with --data-dir"
        ) from error


def _build(settings: Settings, around: Surroundings, lock: DataDirLock) -> Parts:
    clock = around.clock
    migrate(settings.database_url)
    database = Database(settings.database_url, settings.data_dir)
    reach("controller.open.migrated")
    cluster_id = meta.get_or_set(database, meta.CLUSTER_ID, random.token_hex(16))
    secret = open_secret(settings.data_dir)
    reach("controller.open.named")
    table = ImageTable(database, clock)
    limits = ContentLimits(settings.max_image_bytes, settings.max_virtual_bytes)
    store = ImageStore(settings.data_dir / IMAGES, table, limits, clock)
    store.sweep()
    reach("controller.open.swept")
    feed = open_feed(database)
    clients = NodeClients(lambda name: _secret_of(database, name), settings.workers + 4, around.transports)
    records = Records(database, clock)
    converger = Converger(
        cluster_id,
        records,
        clients,
        Distribution(store, settings),
        lambda machine: _image_of(table, machine),
        clock,
        settings.workers,
    )
    watching = Watching(
        cluster_id, database, clients, converger, records, clock, settings.check_period_s, settings.unreachable_after_s
    )
    watchers = Watchers(watching)
    placement = Placement(database, settings, clock=clock)
    hosts = Hosts(settings, database, clients, feed, clock, watchers.watch, watchers.unwatch)
    tally = Tally()
    audit = Audit(cluster_id, database, clients)
    record = AuditRecord(database, clock)
    runner = OperationRunner(database, _workflows(hosts, placement, converger), clock, settings.provision_parallel)
    return Parts(
        settings=settings,
        cluster_id=cluster_id,
        secret=secret,
        database=database,
        clients=clients,
        converger=converger,
        watchers=watchers,
        runner=runner,
        events=feed,
        nodes=Nodes(database, runner, watchers, converger, clock),
        images=Images(store, database),
        machines=Machines(database, placement, converger, clients, feed, clock, tally),
        operations=Operations(database, feed, clock),
        audit=audit,
        auditing=Auditing(audit.run, record.write, clock.monotonic, settings.audit_period_s),
        tally=tally,
        lock=lock,
    )


def _workflows(hosts: Hosts, placement: Placement, converger: Converger) -> dict[OperationKind, Workflow]:
    return {
        OperationKind.NODE_ADD: AddNode(hosts),
        OperationKind.NODE_REMOVE: RemoveNode(hosts, converger.wake, converger.dismiss),
        OperationKind.NODE_DRAIN: Drain(hosts, placement, converger.hands.holding, converger.wake),
    }


def _secret_of(database: Database, name: str) -> str | None:
    with database.read() as connection:
        return secrets.get(connection, name)


def _image_of(table: ImageTable, machine: Machine) -> Image:
    image = table.get(machine.image)
    if image is None or image.sha256 != machine.image_sha256:
        raise UnknownImage("image", f"image {machine.image} is here no more")
    return image


def serve(
    host: str | None = None, port: int | None = None, data_dir: Path | None = None, database: str | None = None
) -> None:
    """Serve one controller over REST until SIGTERM or SIGINT; machines keep running."""
    from garbi.iaas.rest.server import run

    settings = Settings.from_environment(host=host, port=port, data_dir=data_dir, database=database)
    logs.configure()
    controller = open_controller(settings)
    try:
        run(controller, settings.host, settings.port)
    finally:
        controller.close()
