"""The faults that are planted in what becomes of a lost database, each with the script that finds it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.simulation.planted import Fault, constant
from tests.simulation.runs import Plan

from garbi.hyper.model.machine import State
from garbi.iaas.converge import Absent, Gone


def _script(name: str) -> Plan:
    return Plan(ways_in=False, script=name)


def _to_be_started(real: Any) -> Any:
    """What does not run is driven to what its file says."""

    def as_seen(self: Any, machine: Any, seen: Any) -> Any:
        found = real(self, machine, seen)
        return replace(found, settled_generation=0) if found.state is State.STOPPED else found

    return as_seen


def _gone_unasked(real: Any) -> Any:
    return lambda machine, seen: Gone() if isinstance(seen, Absent) else real(machine, seen)


def _as_new(real: Any) -> Any:
    """Only a database that is missing or empty is lost."""
    return lambda path, known, records, newest, identity: real(path, known, [], 0, identity)


LOSS_FAULTS = (
    Fault("lost-database-begins-anew", "an agent without its database begins anew, as somebody else", (
        ("garbi.hyper.main.find_loss", constant(None)),
    ), seeds=(1,), plan=_script("agent-whose-database-is-lost")),
    Fault("emptied-database-begins-anew", "an agent whose database is empty begins anew", (
        ("garbi.hyper.main.find_loss", constant(None)),
    ), seeds=(1,), plan=_script("agent-whose-database-is-emptied")),
    Fault("older-database-is-believed", "an agent whose database is older than its machines goes on with it", (
        ("garbi.hyper.store.traces._kind", _as_new),
    ), seeds=(1,), plan=_script("agent-whose-database-is-rolled-back")),
    Fault("files-start-machines", "what is adopted and does not run is started without an order", (
        ("garbi.hyper.agent.adoption.Adoption._as_seen", _to_be_started),
    ), seeds=(1,), plan=_script("agent-that-adopts-what-runs-elsewhere")),
    Fault("record-goes-unasked", "the record of a machine goes because its agent has none, whatever an engine runs", (
        ("garbi.iaas.converge._toward_removed", _gone_unasked),
    ), seeds=(1,), plan=_script("machine-that-disappeared-is-removed")),
    Fault("copies-are-served", "a data directory serves on whichever host it is", (
        ("garbi.hyper.host.identity.find_copied", constant(None)),
    ), seeds=(1,), plan=_script("host-that-begins-from-a-copy-of-another")),
)  # fmt: skip
