"""What libvirt's numbers for the state of a domain mean to the agent: a condition, and the cause when it ended badly."""

from __future__ import annotations

import libvirt

from garbi.hyper.drivers.libvirt.events import LifecycleEvent
from garbi.hyper.drivers.protocol import Condition

KILLED = "the QEMU process was killed"
CRASHED = "the guest crashed"
CRASHED_OR_KILLED = "the guest crashed, or its QEMU process was killed"

_CONDITIONS = {
    libvirt.VIR_DOMAIN_RUNNING: Condition.RUNNING,
    libvirt.VIR_DOMAIN_BLOCKED: Condition.RUNNING,
    libvirt.VIR_DOMAIN_SHUTDOWN: Condition.RUNNING,  # it is about to end
    libvirt.VIR_DOMAIN_PAUSED: Condition.PAUSED,
    libvirt.VIR_DOMAIN_PMSUSPENDED: Condition.PAUSED,
}
_PASSING = (libvirt.VIR_DOMAIN_PAUSED_STARTING_UP, libvirt.VIR_DOMAIN_PAUSED_SHUTTING_DOWN)

_CAUSES = {
    libvirt.VIR_DOMAIN_SHUTOFF_CRASHED: CRASHED_OR_KILLED,
    libvirt.VIR_DOMAIN_SHUTOFF_FAILED: "QEMU could not be started",
    libvirt.VIR_DOMAIN_SHUTOFF_DAEMON: "libvirt powered it off, for it could not take it over when it was restarted",
}


def condition_of(state: int, reason: int) -> Condition:
    """The condition of a domain in this state."""
    if state == libvirt.VIR_DOMAIN_PAUSED and reason in _PASSING:
        return Condition.RUNNING
    return _CONDITIONS.get(state, Condition.STOPPED)


def failure_of(state: int, reason: int, known: str | None) -> str:
    """Why a domain in this state ended; empty when in order. `known` is what an event has told of a crash."""
    if state == libvirt.VIR_DOMAIN_CRASHED:
        return CRASHED
    if state != libvirt.VIR_DOMAIN_SHUTOFF:
        return ""
    if reason == libvirt.VIR_DOMAIN_SHUTOFF_CRASHED and known is not None:
        return known
    return _CAUSES.get(reason, "")


def cause_in(event: LifecycleEvent) -> str | None:
    """What an event tells of the cause of a crash, more precisely than the state does afterwards."""
    if event.event == libvirt.VIR_DOMAIN_EVENT_CRASHED:
        return CRASHED
    stopped = event.event == libvirt.VIR_DOMAIN_EVENT_STOPPED
    return KILLED if stopped and event.detail == libvirt.VIR_DOMAIN_EVENT_STOPPED_FAILED else None
