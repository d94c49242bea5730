"""The faults that are planted in what follows from an engine's end, a planned reboot and a failed disk, with their scripts."""

from __future__ import annotations

from typing import Any

from tests.simulation.planted import Fault, constant
from tests.simulation.runs import Plan


def _told(script: str) -> Plan:
    return Plan(ways_in=False, script=script)


def _any_disk(real: Any) -> Any:
    return tuple(each for each in real if each.name != "storage")


ENGINE_FAULTS = (
    Fault("ended-by-itself", "what ended with its engine counts as ended by itself", (
        ("garbi.hyper.converge._ended_with_engine", constant(False)),
    ), seeds=(1,), plan=_told("engine-that-is-restarted")),
    Fault("ended-unseen", "what ended with its engine while no agent was there counts as ended by itself", (
        ("garbi.hyper.converge._ended_with_engine", constant(False)),
    ), seeds=(1,), plan=_told("engine-that-is-restarted-without-its-agent")),
    Fault("fenced-at-once", "a node that said that it goes down is fenced as soon as it is silent", (
        ("garbi.iaas.loops.failover.LEAVING_S", lambda _real: 0.0),
    ), seeds=(1,), plan=_told("host-that-is-rebooted-on-purpose")),
    Fault("any-disk", "machines are placed on nodes that cannot write", (
        ("garbi.iaas.scheduler.filters.FILTERS", _any_disk),
    ), seeds=(1,), plan=_told("disk-that-cannot-be-written")),
)  # fmt: skip
