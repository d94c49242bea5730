"""`iaas doctor`: whether this host is fit to be a controller, and how to mend what is not. Needs no controller."""

from __future__ import annotations

import ctypes
import os
import stat
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from garbi.base.boot import boot_id
from garbi.base.checks import Check, Finding, fail, ok, run_checks, run_program, warn
from garbi.base.programs import find_program
from garbi.base.token import TOKEN_FILE
from garbi.iaas.fences.power import PowerFence, find_flaw
from garbi.iaas.loops.failover import LEAVING_S
from garbi.iaas.model.node import Node
from garbi.iaas.model.tombstone import Tombstone
from garbi.iaas.monitor.failover import Condition, too_many_dead
from garbi.iaas.monitor.lease import PAIR, least_margin
from garbi.iaas.monitor.rivals import MEND, RIVAL
from garbi.iaas.monitor.verdict import WATCHED
from garbi.iaas.provisioning.target import Share
from garbi.iaas.settings import Settings
from garbi.storage.engine import is_sqlite, path_of
from garbi.storage.room import REMOTE_FILE_SYSTEMS, examine_room, existing_parent, file_system

if TYPE_CHECKING:
    from sqlalchemy import Connection

T = TypeVar("T")
TIMEOUT_S = 10.0
MOST_ASKED, POWER_LIMIT_S = 16, 18.0
"""Of how many hosts the power program is asked at once, and three times what each answer may take."""

EXTRA = "pip install 'garbi[iaas]'"
OLDEST_ANSIBLE = (2, 17)
STATUS_UNSYNCHRONISED = 0x0040
SIZE_OF_TIMEX = 512
"""More than the kernel's `struct timex` has, on every architecture."""

AT_STATUS = 40
"""Where in it the status word is, where a long has 8 bytes."""


def check_python(settings: Settings) -> Finding:
    """The interpreter that runs the controller."""
    return ok(f"{sys.version.split()[0]} at {sys.executable}")


def check_ansible(settings: Settings) -> Finding:
    """What makes hosts nodes."""
    beside = Path(sys.executable).with_name("ansible-playbook")
    found = str(beside) if os.access(beside, os.X_OK) else find_program("ansible-playbook")
    if found is None:
        return fail("ansible-playbook is not installed: only nodes with --no-provision can be added", EXTRA)
    try:
        core, runner = version("ansible-core"), version("ansible-runner")
    except PackageNotFoundError as error:
        return fail(f"the package {error.name} is missing beside {sys.executable}", EXTRA)
    said = f"ansible-core {core}, ansible-runner {runner}"
    if tuple(int(part) for part in core.split(".")[:2] if part.isdigit()) < OLDEST_ANSIBLE:
        return warn(f"{said}: older than {'.'.join(map(str, OLDEST_ANSIBLE))}", EXTRA)
    return ok(said)


def check_ssh(settings: Settings) -> Finding:
    """How hosts are reached."""
    missing = [name for name in ("ssh", "ssh-keyscan", "ssh-keygen") if find_program(name) is None]
    if missing:
        return fail(f"{', '.join(missing)} not installed: hosts cannot be set up", "apt-get install openssh-client")
    code, said = run_program(["ssh", "-V"])
    return ok(said) if code == 0 else fail(f"ssh does not work: {said}", "apt-get install --reinstall openssh-client")


def check_sandbox(settings: Settings) -> Finding:
    """Images of strangers are looked at, and hosts spoken with, where they can do no harm."""
    code, said = run_program(["bwrap", "--ro-bind", "/", "/", "--unshare-pid", "--", "true"])
    if code == 0:
        return ok("bubblewrap confines what reads images and speaks with hosts")
    mend = "apt-get install bubblewrap" if code == 127 else "sysctl kernel.unprivileged_userns_clone=1"
    return fail(f"images are inspected with less around them, hosts cannot be set up: {said}", mend)


def check_qemu_img(settings: Settings) -> Finding:
    """What disks are looked at with."""
    code, said = run_program(["qemu-img", "--version"])
    return ok(said) if code == 0 else fail(f"disk images cannot be checked: {said}", "apt-get install qemu-utils")


def check_disk(settings: Settings) -> Finding:
    """The data directory is on a local disk, with room."""
    return examine_room(settings.data_dir)


def check_rights(settings: Settings) -> Finding:
    """Whoever runs this may write the data directory."""
    place = existing_parent(settings.data_dir)
    if os.access(place, os.W_OK | os.X_OK):
        return ok(f"{place} can be written")
    return fail(f"{place} cannot be written", f"run as its owner, or choose another directory: not {settings.data_dir}")


def check_database(settings: Settings) -> Finding:
    """The database answers, and is where it may be."""
    from sqlalchemy import text
    from sqlalchemy.exc import SQLAlchemyError

    from garbi.storage.engine import make_engine

    url = settings.database_url
    if is_sqlite(url):
        path = path_of(url)
        kind = file_system(existing_parent(path))
        if kind.startswith(REMOTE_FILE_SYSTEMS):
            return fail(f"{path} is on {kind}; SQLite needs a local disk", "a local --data-dir, or PostgreSQL")
        if not path.exists():
            return ok(f"SQLite at {path}, to be made at the first start")
    engine = make_engine(url, busy_timeout_s=TIMEOUT_S / 2, quick=True)
    try:
        with engine.connect() as connection:
            if is_sqlite(url):
                said = str(connection.execute(text("PRAGMA quick_check(1)")).scalar())
                mend = "restore the database from a copy"
                return (
                    ok(f"SQLite at {path_of(url)}") if said == "ok" else fail(f"the database is damaged: {said}", mend)
                )
            return ok(f"PostgreSQL {connection.execute(text('SHOW server_version')).scalar()}")
    except SQLAlchemyError as error:
        # The words of a driver may quote the URL, and that has a password.
        words = type(getattr(error, "orig", None) or error).__name__
        return fail(f"the database does not answer ({words})", "look at the URL, at its server and at its rights")
    finally:
        engine.dispose()


def check_leadership(settings: Settings) -> Finding | None:
    """One of the controllers on the database leads."""
    from sqlalchemy import text
    from sqlalchemy.exc import SQLAlchemyError

    from garbi.iaas.store import meta
    from garbi.storage.engine import LEADERS, make_engine

    url = settings.database_url
    if is_sqlite(url) and not path_of(url).exists():
        return ok("no controller was here yet")
    engine = make_engine(url, busy_timeout_s=TIMEOUT_S / 2, quick=True)
    try:
        with engine.connect() as connection:
            who = f"{meta.get(connection, meta.LEADER) or 'nobody'}, term {meta.get(connection, meta.TERM) or 0}"
            if is_sqlite(url):
                return ok(f"SQLite is for one controller; the last was {who}")
            locks = text(
                "SELECT granted FROM pg_locks JOIN pg_database ON pg_database.oid = pg_locks.database "
                "WHERE locktype = 'advisory' AND objid = :key AND datname = current_database()"
            )
            held = [bool(row.granted) for row in connection.execute(locks, {"key": LEADERS})]
    except SQLAlchemyError:
        return None  # `database` says what is wrong
    finally:
        engine.dispose()
    if not any(held):
        return warn(f"no controller leads; the last was {who}", "start one: iaas serve")
    return ok(f"{who} leads; {held.count(False)} more wait for their turn")


def check_obedience(settings: Settings) -> Finding | None:
    """No node obeys another controller than the one of this database."""
    known = _nodes(settings)
    elsewhere = [node.name for node in known if node.reason.startswith(RIVAL)]
    if elsewhere:
        return fail(f"nodes obey another controller, and nothing is ordered there: {', '.join(elsewhere)}", MEND)
    return ok("no node was found to obey another controller") if known else None


def check_removed(settings: Settings) -> Finding | None:
    """Nothing may run on on hosts whose nodes were removed while they were silent."""
    left = [each for each in _tombstones(settings) if each.may_run]
    if not left:
        return None
    words = "; ".join(f"{each.name} at {each.address}: {', '.join(each.may_run)}" for each in left)
    mend = "let the host answer, or see that it is off; `iaas node add` of it ends this, too"
    return warn(f"machines may run on on hosts that were removed by force while silent: {words[:1000]}", mend)


def check_brake(settings: Settings) -> Finding | None:
    """Not so many nodes seem dead at once that nothing is moved."""
    from datetime import UTC, datetime

    known, now = _nodes(settings), datetime.now(UTC)
    conditions = [
        Condition(
            node.name,
            node.state,
            (now - node.updated_at).total_seconds(),
            (now - (node.seen_at or node.created_at)).total_seconds(),
        )
        for node in known
    ]
    mass = too_many_dead(conditions)
    if mass is None:
        return ok("not too many nodes seem dead at once") if known else None
    dead = ", ".join(mass.dead)
    return fail(
        f"{len(mass.dead)} of {mass.nodes} nodes seem dead at once ({dead}): nothing is fenced or moved",
        "look at the network first; then, for each host that is off: iaas node confirm-dead NAME",
    )


def check_voices(settings: Settings) -> Finding | None:
    """Two nodes and the controller are three voices, on three hosts."""
    known = [node for node in _nodes(settings) if node.state in WATCHED]
    here = [node.name for node in known if node.boot_id == boot_id()]
    if len(known) != PAIR:
        return None
    if not here:
        return ok("the controller is the third voice beside two nodes")
    return warn(
        f"the controller lives on node {here[0]}, one of two: no lease ends by itself, and neither is made up for by the other",
        "let any small third host be a voice: iaas node add NAME ADDR:PORT --witness; or run the controller beside them",
    )


def check_margin(settings: Settings) -> Finding:
    """The margin of leases is the one that counts."""
    set_s, least_s = settings.lease_margin_s, least_margin(settings.lease_ttl_s)
    if set_s >= least_s:
        return ok(f"{set_s:g} s after a lease of {settings.lease_ttl_s:g} s its machines have ended for certain")
    found = (
        f"GARBI_IAAS_LEASE_MARGIN_S is {set_s:g}, and counts as {least_s:g} s for leases of {settings.lease_ttl_s:g} s"
    )
    return warn(found, f"set it to {least_s:g} or more, or take shorter leases: a quarter of one and 5 s is the least")


def check_disks(settings: Settings) -> Finding | None:
    """Nodes can write on their disks."""
    known = _nodes(settings)
    failed = [f"{node.name}: {node.unwritable}" for node in known if node.unwritable]
    if not failed:
        return ok("no node says that its disk has failed") if known else None
    return fail(
        f"nodes that cannot write on their disks, where machines run on and nothing new is placed: {'; '.join(failed)[:1000]}",
        "look at the disk and at dmesg there; once a write succeeds, all is well by itself; else: iaas node drain NAME",
    )


def check_leaving(settings: Settings) -> Finding | None:
    """No host has said that it goes down and stayed away."""
    leaving = [
        f"{node.name} since {node.leaving_at.isoformat(timespec='seconds')}"
        for node in _nodes(settings)
        if node.leaving_at is not None
    ]
    if not leaving:
        return None
    return warn(
        f"hosts that said that they go down, to be fenced after {LEAVING_S / 60:.0f} min of silence: {', '.join(leaving)[:1000]}",
        "wait until they are back; for one that stays off: iaas node confirm-dead NAME",
    )


def check_token(settings: Settings) -> Finding:
    """Only the owner reads the token that commands the cloud."""
    path = settings.data_dir / TOKEN_FILE
    try:
        found = path.stat()
    except FileNotFoundError:
        return ok("made at the first start")
    except OSError as error:
        return warn(f"{path} cannot be looked at: {error.strerror}", "run iaas doctor as who runs the controller")
    mode = stat.S_IMODE(found.st_mode)
    if mode & 0o077:
        return fail(f"others can read or write {path} (mode {mode:04o})", f"chmod 0600 {path}; then make a new one")
    return ok(f"{path} is its owner's alone")


def check_share(settings: Settings) -> Finding | None:
    """The images are exported to the nodes, and to nobody else."""
    from garbi.iaas.imagestore.nfs_export import find_flaws, present_exports

    if not settings.image_share:
        return None
    share = Share.parse(settings.image_share)
    if share is None or not Path(share.path).is_dir():
        return warn(
            f"{settings.image_share} is not on this host: its export was not looked at",
            "let it be read-only, all_squash, and for the nodes alone",
        )
    flaws = find_flaws(present_exports(), Path(share.path), [node.host for node in _nodes(settings)])
    if flaws:
        return fail("; ".join(flaw.problem for flaw in flaws), flaws[0].mend)
    return ok(f"{share.path} is exported to the nodes alone, read-only")


def check_power(settings: Settings) -> Finding | None:
    """The program that switches hosts off is nobody else's, and knows every host."""
    if not settings.power_command:
        return None
    flaw = find_flaw(Path(settings.power_command))
    if flaw:
        return fail(flaw, "let it be root's alone: chown root PROGRAM; chmod 0755 PROGRAM; its directory too")
    nodes = _nodes(settings)[:MOST_ASKED]
    if not nodes:
        return ok(f"{settings.power_command}; there is no node yet to ask it about")
    fence = PowerFence(settings.power_command, limit_s=POWER_LIMIT_S)
    with ThreadPoolExecutor(len(nodes)) as pool:
        states = list(pool.map(lambda node: fence.ask(node, threading.Event()), nodes))
    told = zip(nodes, states, strict=True)
    silent = [f"{node.name}: {state}" for node, state in told if state not in ("on", "off")]
    if silent:
        words = f"{settings.power_command} status NODE HOST prints on or off, and nothing else"
        return fail(f"the power program does not tell the state of {'; '.join(silent)[:1000]}", words)
    return ok(f"{settings.power_command} tells the state of {', '.join(node.name for node in nodes)}")


def check_clock(settings: Settings) -> Finding:
    """Time stamps are right. Nothing else hangs on the clock."""
    timex = ctypes.create_string_buffer(SIZE_OF_TIMEX)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.adjtimex(timex) < 0:
        return warn("the kernel does not tell whether the clock is right", "timedatectl")
    status = int.from_bytes(timex.raw[AT_STATUS : AT_STATUS + 4], sys.byteorder)
    if status & STATUS_UNSYNCHRONISED:
        mend = "apt-get install systemd-timesyncd, or chrony"
        return warn("nothing keeps the clock right: time stamps of nodes and controller may differ", mend)
    return ok("kept by a time service")


def _nodes(settings: Settings) -> Sequence[Node]:
    """The nodes, as far as the database tells."""
    from garbi.iaas.store import nodes

    return _rows(settings, nodes.list)


def _tombstones(settings: Settings) -> Sequence[Tombstone]:
    """Nodes that were removed while they were silent, as far as the database tells."""
    from garbi.iaas.store import tombstones

    return _rows(settings, tombstones.list)


def _rows(settings: Settings, read: Callable[[Connection], Sequence[T]]) -> Sequence[T]:
    from sqlalchemy.exc import SQLAlchemyError

    from garbi.storage.engine import make_engine

    url = settings.database_url
    if is_sqlite(url) and not path_of(url).exists():
        return []
    engine = make_engine(url, busy_timeout_s=TIMEOUT_S / 2, quick=True)
    try:
        with engine.connect() as connection:
            return read(connection)
    except SQLAlchemyError:
        return []
    finally:
        engine.dispose()


CHECKS: Mapping[str, Callable[[Settings], Finding | None]] = {
    "python": check_python,
    "ansible": check_ansible,
    "ssh": check_ssh,
    "sandbox": check_sandbox,
    "qemu-img": check_qemu_img,
    "disk": check_disk,
    "rights": check_rights,
    "database": check_database,
    "leadership": check_leadership,
    "obedience": check_obedience,
    "removed-nodes": check_removed,
    "mass-failure": check_brake,
    "voices": check_voices,
    "lease-margin": check_margin,
    "node-disks": check_disks,
    "leaving": check_leaving,
    "token": check_token,
    "image-share": check_share,
    "power": check_power,
    "clock": check_clock,
}
"""Every check by the name that users see, in the order in which they are shown."""


def examine(settings: Settings, timeout_s: float = TIMEOUT_S) -> list[Check]:
    """Do all checks at the same time. Never raises, never takes longer than `timeout_s`."""
    return run_checks(settings, CHECKS, timeout_s)
