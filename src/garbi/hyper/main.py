"""Puts one agent together from its settings, and serves it."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from garbi.base import logs
from garbi.base.clock import Clock, SystemClock
from garbi.base.disks import kind_of
from garbi.base.errors import Conflict, FinalError
from garbi.base.failpoints import reach
from garbi.base.tally import Tally
from garbi.base.token import open_secret
from garbi.content.uploads import ContentLimits
from garbi.hyper.agent.adoption import Adoption
from garbi.hyper.agent.agent import Agent, Parts
from garbi.hyper.agent.audit import Audit
from garbi.hyper.agent.events import open_feed
from garbi.hyper.agent.images import Images
from garbi.hyper.agent.kept import KeptDisks
from garbi.hyper.agent.machines import Host, Machines
from garbi.hyper.agent.marked import cluster_id_of
from garbi.hyper.agent.orphans import Orphans
from garbi.hyper.agent.placement import Placement
from garbi.hyper.drivers.protocol import DriverContext, ImageFile
from garbi.hyper.drivers.registry import DriverRegistry, installed
from garbi.hyper.host.capacity import boot_id, cpus, memory_total_mib
from garbi.hyper.host.exposure import exposed_daemons
from garbi.hyper.host.identity import keep_host, refuse_copied
from garbi.hyper.host.shutdown import is_going_down
from garbi.hyper.images.library import ImageLibrary
from garbi.hyper.images.share import ImageShare
from garbi.hyper.leases.asking import ask_witnesses
from garbi.hyper.leases.files import LeaseFiles
from garbi.hyper.leases.inquiry import Ask
from garbi.hyper.leases.leases import Leases
from garbi.hyper.loops.auditing import regular
from garbi.hyper.loops.converger import Converger, ConvergerSettings
from garbi.hyper.loops.keeping import Keeping
from garbi.hyper.loops.publisher import Publisher
from garbi.hyper.loops.restarts import RestartTimes
from garbi.hyper.model.capacity import Capacity
from garbi.hyper.model.image import ImageType
from garbi.hyper.model.machine import Machine
from garbi.hyper.publishing.holders import PortHolder, UnboundPorts
from garbi.hyper.publishing.nftables import PublishingTable
from garbi.hyper.settings import Settings
from garbi.hyper.store import meta
from garbi.hyper.store.database import Database
from garbi.hyper.store.image_files import ImageFiles
from garbi.hyper.store.images import ImageTable
from garbi.hyper.store.machine_files import MachineFiles, read_records
from garbi.hyper.store.migrate import migrate
from garbi.hyper.store.traces import DATABASE as DATABASE
from garbi.hyper.store.traces import Loss, LossKind, find_loss, set_aside
from garbi.storage.ballast import Ballast
from garbi.storage.copies import Copies, Copying, CopyRules, copy_sqlite
from garbi.storage.identity import keep_identity
from garbi.storage.lock import DataDirLock
from garbi.storage.soundness import damage

log = logging.getLogger(__name__)

NO_FILE = Path("/nonexistent")
SIMULATED = "fake"
"""The driver of simulated agents."""


@dataclass(frozen=True, slots=True)
class _Surroundings:
    """How an agent is opened; see `open_agent`."""

    clock: Clock
    simulated: bool
    ask: Ask
    adopt: bool
    moved: bool


def open_agent(
    settings: Settings,
    clock: Clock | None = None,
    simulated: bool = False,
    *,
    ask: Ask = ask_witnesses,
    adopt: bool = False,
    moved: bool = False,
) -> Agent:
    """Open the data directory, adopt what runs, and begin to work.

    A directory whose database is lost, emptied or older than what lies beside it is refused by FinalError; with `adopt` it is
    made anew. Refused is also one that an agent of another host has used last, unless it was `moved` here.

    A `simulated` agent pretends to have a host to itself: its machines are fake, and no port of this host is taken for them.
    `ask` asks other nodes about a controller.
    Raises DataDirLocked when another agent has it, NoSpace, or FinalError when the directory cannot be used.
    """
    around = _Surroundings(clock or SystemClock(), simulated, ask, adopt, moved)
    _make_data_dir(settings.data_dir)
    lock = DataDirLock(settings.data_dir)
    try:
        return Agent(_build(settings, lock, around))
    except BaseException:
        lock.release()
        raise


def _make_data_dir(path: Path) -> None:
    """Others may pass through the directory (a hypervisor reads its disks there), but not list it."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(0o711)
        Ballast(path).balance()
    except OSError as error:
        raise kind_of(error, FinalError)(
            f"the data directory {path} cannot be made: {error.strerror}; choose another with --data-dir"
        ) from error


@dataclass(frozen=True, slots=True)
class _Kept:
    """What an agent finds in its data directory: who it is, its rows, and the drivers that know it by that."""

    cluster_id: str
    database: Database
    table: ImageTable
    drivers: DriverRegistry
    copies: Copies


def _take_up(settings: Settings, around: _Surroundings) -> _Kept:
    """Open the database, or make it anew, and bring the files beside it in line with it."""
    data_dir, clock, simulated = settings.data_dir, around.clock, around.simulated
    if not around.moved:
        refuse_copied(data_dir)
    loss = _look_for_loss(settings, around)
    copies = _copies(settings, around)
    migrate(data_dir / DATABASE, copies.make_before)
    database = Database(data_dir / DATABASE)
    reach("agent.open.migrated")
    adopted = loss.cluster_id if loss is not None else None  # its row is the adoption's to write
    cluster_id = adopted or meta.get_or_set(database, meta.CLUSTER_ID, secrets.token_hex(16))
    reach("agent.open.named")
    keep_identity(data_dir, cluster_id)
    keep_host(data_dir)
    image_files = ImageFiles(data_dir)
    files = MachineFiles(data_dir, settings.runtime, cluster_id, durable=not simulated)
    database.heralded_by(files)
    found = installed(SIMULATED) if simulated else None
    drivers = DriverRegistry(lambda name: driver_context(settings, clock, cluster_id, name), found)
    if loss is not None:
        lease_files = LeaseFiles(data_dir, settings.runtime)
        adoption = Adoption(data_dir, lease_files, database, drivers, image_files, clock, boot_id())
        log.warning("the database was made anew", extra={"detail": adoption.run(loss)})
        reach("agent.open.adopted")
    files.repair(database, read_records(data_dir)[0])
    table = ImageTable(database, image_files)
    table.repair()
    return _Kept(cluster_id, database, table, drivers, copies)


def _build(settings: Settings, lock: DataDirLock, around: _Surroundings) -> Parts:
    clock, simulated = around.clock, around.simulated
    secret = open_secret(settings.data_dir)
    kept = _take_up(settings, around)
    cluster_id, database, table, drivers = kept.cluster_id, kept.database, kept.table, kept.drivers
    library, share = _open_library(settings, table, clock), ImageShare(settings.image_share, settings.image_use)
    holder = UnboundPorts() if simulated else PortHolder()
    publisher = Publisher(database, drivers, holder, PublishingTable(cluster_id))
    host = Host(settings.node_name, boot_id(), _capacity(settings))
    lease_files = LeaseFiles(settings.data_dir, settings.runtime)
    leases = Leases(database, lease_files, settings.runtime, clock, host.boot_id, around.ask)
    tally = Tally()
    converger = _converger(settings, kept, publisher, library, around, leases.hold, tally)
    leases.on_change(converger.resync)
    feed = open_feed(database)
    keeping = Keeping(database, drivers, clock)
    audit = Audit(database, drivers, host.capacity, publisher, library, leases.hold, settings.data_dir, cluster_id)
    return Parts(
        settings=settings,
        cluster_id=cluster_id,
        secret=secret,
        database=database,
        drivers=drivers,
        publisher=publisher,
        converger=converger,
        events=feed,
        images=Images(library, table, share, drivers, lambda: meta.used_drivers(database)),
        machines=Machines(
            database,
            Placement(drivers, table),
            publisher,
            converger,
            feed,
            leases,
            clock,
            host,
            Orphans(database, drivers, clock),
        ),
        kept=KeptDisks(database, keeping),
        keeping=keeping,
        copying=Copying(kept.copies),
        leases=leases,
        audit=audit,
        auditing=regular(audit.run, database, clock, settings.audit_period_s),
        tally=tally,
        capacity=host.capacity,
        lock=lock,
        simulated=simulated,
    )


def _look_for_loss(settings: Settings, around: _Surroundings) -> Loss | None:
    """What is to be adopted; raises FinalError when there is something and nobody said so. What is of no use is put aside."""
    data_dir, adopt = settings.data_dir, around.adopt
    path = data_dir / DATABASE
    damaged = adopt and damage(path) is not None
    loss = find_loss(data_dir, unreadable=damaged)
    if loss is None:
        return None
    if not adopt:
        raise FinalError(f"{loss.words}; nothing was changed: {loss.way_on}")
    if loss.cluster_id is None:
        loss = replace(loss, cluster_id=_marked_cluster_id(settings, around))
    if loss.cluster_id is None:
        raise FinalError(
            f"{loss.words}, and neither a file nor one mark on its machines names its cluster id: put back a backup, or give a "
            "new agent an empty directory"
        )
    if damaged or loss.kind is not LossKind.OLDER:
        set_aside(path, "damaged" if damaged else loss.kind)
    return loss


def _marked_cluster_id(settings: Settings, around: _Surroundings) -> str | None:
    """What the machines of the data directory say at their engines; who lists those of any agent needs no id."""
    found = installed(SIMULATED) if around.simulated else None
    drivers = DriverRegistry(lambda name: driver_context(settings, around.clock, "0" * 32, name), found)
    try:
        return cluster_id_of(settings.place, drivers)
    finally:
        drivers.close()


def _copies(settings: Settings, around: _Surroundings) -> Copies:
    """The copies of the database; a simulated agent makes none by itself."""
    path = settings.data_dir / DATABASE
    rules = CopyRules(0 if around.simulated else settings.copy_period_s, settings.copies_daily, settings.copies_weekly)

    def size() -> int:
        return path.stat().st_size if path.exists() else 0

    return Copies(
        settings.data_dir, "hyper", ".db", size, lambda target: copy_sqlite(path, target), around.clock, rules
    )


def _open_library(settings: Settings, table: ImageTable, clock: Clock) -> ImageLibrary:
    """The images of the host, without what a crash left of some."""
    limits = ContentLimits(settings.max_image_bytes, settings.max_virtual_bytes, kept_s=settings.upload_kept_s)
    library = ImageLibrary(settings.data_dir / "images", table, limits, clock)
    library.sweep()
    reach("agent.open.swept")
    return library


def _converger(
    settings: Settings,
    kept: _Kept,
    publisher: Publisher,
    library: ImageLibrary,
    around: _Surroundings,
    hold: Callable[[Machine], str | None],
    tally: Tally,
) -> Converger:
    return Converger(
        kept.database,
        kept.drivers,
        publisher,
        lambda machine: _image_file(machine, kept.table, library),
        around.clock,
        boot_id(),
        _converger_settings(settings, around.simulated),
        hold=hold,
        tally=tally,
    )


def _converger_settings(settings: Settings, simulated: bool) -> ConvergerSettings:
    restarts = RestartTimes(settings.restart_pauses_s, settings.restarts_forgotten_after_s)
    return ConvergerSettings(
        settings.workers,
        settings.stop_deadline_s,
        settings.resync_period_s,
        restarts,
        settings.place,
        bool if simulated else is_going_down,
    )


def driver_context(
    settings: Settings, clock: Clock, cluster_id: str, name: str, *, looks: bool = False
) -> DriverContext:
    """What the driver of that name is given: a directory of its own that a hypervisor can pass through, its settings.

    None is made for who only `looks`, and ends machines: that would be the trace of an agent.
    """
    data_dir = settings.data_dir / "drivers" / name
    if not looks:
        data_dir.mkdir(parents=True, exist_ok=True)
        for each in (data_dir, data_dir.parent):
            each.chmod(0o711)
    return DriverContext(
        cluster_id, data_dir, clock, settings.drivers.get(name, {}), settings.runtime / "drivers" / name
    )


def _capacity(settings: Settings) -> Capacity:
    mem = settings.mem_limit_mib or max(memory_total_mib() - settings.mem_kept_mib, 1)
    return Capacity(mem=mem, cpus=int(cpus() * settings.cpu_overcommit), cpus_per_machine=cpus())


def _image_file(machine: Machine, table: ImageTable, library: ImageLibrary) -> ImageFile:
    image = table.get(machine.image)
    if image is not None and image.sha256 == machine.image_sha256:
        return library.file(image)
    # Fetched by the driver itself, or a driver that needs no content: there is no file of ours.
    return ImageFile(machine.image_sha256, ImageType.DOCKER, NO_FILE, 0)


def serve(
    host: str | None = None,
    port: int | None = None,
    data_dir: Path | None = None,
    *,
    adopt: bool = False,
    moved: bool = False,
) -> None:
    """Serve one agent over REST until SIGTERM or SIGINT; machines keep running. See `open_agent`."""
    from garbi.hyper.rest.server import run

    settings = Settings.from_environment(host=host, port=port, data_dir=data_dir)
    logs.configure()
    _refuse_exposed_daemons()
    agent = open_agent(settings, adopt=adopt, moved=moved)
    try:
        run(agent, settings.host, settings.port)
    finally:
        agent.close()


def _refuse_exposed_daemons() -> None:
    """Whoever reaches such a daemon is root here, whatever the agent forbids."""
    exposed = exposed_daemons()
    if exposed:
        raise Conflict(f"{exposed[0]}: other hosts can give it orders; `hyper doctor` says how to mend that")
