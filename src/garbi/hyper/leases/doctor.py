"""The checks of `hyper doctor` about leases: whether a watchdog works where a controller could use it, and that of the kernel."""

from __future__ import annotations

import os
from pathlib import Path

from garbi.base.checks import Finding, fail, ok, warn
from garbi.base.clock import SystemClock
from garbi.hyper.host.capacity import boot_id
from garbi.hyper.host.check import DoctorSettings
from garbi.hyper.leases.files import LeaseFiles
from garbi.hyper.leases.heartbeat import beats
from garbi.hyper.leases.verdict import PAIR
from garbi.hyper.settings import PREFIX, runtime_of

DEVICES = Path("/sys/class/watchdog")
"""Where the kernel tells of its watchdogs. They are not opened for that, which would start them."""

VARIABLE = f"{PREFIX}KERNEL_WATCHDOG"


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


def check_kernel_watchdog(settings: DoctorSettings) -> Finding | None:
    """Where the kernel's watchdog was asked for it is there; where not, it is told how to ask."""
    device = os.environ.get(VARIABLE, "")
    there = sorted(each.name for each in DEVICES.glob("watchdog*"))
    if not device:
        if not there:
            return None
        words = f"the kernel's watchdog {there[0]} ({_told(there[0], 'identity')}) is not used: {VARIABLE} is empty"
        return ok(f"{words}; with {VARIABLE}=/dev/{there[0]} it resets a host that is frozen")
    name = Path(device).name
    name = "watchdog0" if name == "watchdog" else name
    if name not in there:
        mend = f"modprobe softdog, or the module of the hardware; or empty {VARIABLE} in the settings of the node"
        return fail(
            f"{VARIABLE} names {device}, and the kernel has no such watchdog: {', '.join(there) or 'none'}", mend
        )
    words = f"{device} ({_told(name, 'identity')}) resets this host when it is frozen while a lease is armed"
    if _told(name, "nowayout") == "1":
        mend = "load its module with nowayout=0"
        return warn(
            f"{words}, and cannot be stopped once it was opened: also a stop of the watchdog resets the host", mend
        )
    return ok(words)


def _told(name: str, what: str) -> str:
    try:
        return (DEVICES / name / what).read_text().strip()
    except OSError:
        return "unknown"
