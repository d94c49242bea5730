"""The check of `hyper doctor` that is about leases: whether a watchdog works where a controller could use it."""

from __future__ import annotations

from garbi.base.checks import Finding, ok, warn
from garbi.base.clock import SystemClock
from garbi.hyper.host.capacity import boot_id
from garbi.hyper.host.check import DoctorSettings
from garbi.hyper.leases.files import LeaseFiles
from garbi.hyper.leases.heartbeat import beats
from garbi.hyper.leases.verdict import PAIR
from garbi.hyper.settings import runtime_of


def check_watchdog(settings: DoctorSettings) -> Finding | None:
    """A watchdog works beside the agent, if a controller has a lease here."""
    runtime, boot = runtime_of(settings.data_dir), boot_id()
    files = LeaseFiles(settings.data_dir, runtime)
    leases = [files.read(controller) for controller in files.controllers()]
    if not any(lease is not None and lease.boot_id == boot and lease.nodes >= PAIR for lease in leases):
        return None
    if beats(runtime, boot, SystemClock().since_boot()):
        return ok("a watchdog ends what may run elsewhere when this host is cut off")
    return warn(
        f"no watchdog works on {settings.data_dir}: if this host is cut off, its machines are not started elsewhere",
        "systemctl start garbi-watchdog@PORT, or run `hyper watchdog` with the settings of the agent",
    )
