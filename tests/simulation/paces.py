"""How long the periods of the product are in a run: longer ones than the defaults let more days pass in the time of a test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds. `check_s`, `unreachable_s`, `ttl_s` and `resync_s` are settings of the product, the others its constants."""

    check_s: float = 15.0
    unreachable_s: float = 60.0
    ttl_s: float = 180.0
    margin_s: float = 15.0
    resync_s: float = 120.0
    look_s: float = 120.0
    lease_look_s: float = 5.0
    """Between two looks of an agent, or of its watchdog, at the leases."""

    fresh_s: float = 20.0
    """How old the last beat of a watchdog may be that works."""

    calm_s: float = 120.0
    """Between two questions to other hosts while all is well."""

    audit_s: float = 1800.0


DEFAULTS = Pace(
    check_s=3.0,
    unreachable_s=10.0,
    ttl_s=45.0,
    margin_s=10.0,
    resync_s=30.0,
    look_s=30.0,
    lease_look_s=1.0,
    fresh_s=8.0,
    calm_s=30.0,
    audit_s=300.0,
)
"""The product's own."""

BRISK = Pace()
LEISURELY = Pace(
    check_s=240.0,
    unreachable_s=960.0,
    ttl_s=2880.0,
    margin_s=240.0,
    resync_s=7200.0,
    look_s=7200.0,
    lease_look_s=120.0,
    fresh_s=400.0,
    calm_s=7200.0,
    audit_s=43200.0,
)

CONSTANTS = (
    ("garbi.iaas.loops.watching", "LOOK_EVERY_S", "look_s"),
    ("garbi.iaas.loops.standing", "SEEN_EVERY_S", "look_s"),
    ("garbi.hyper.leases.leases", "PACE_S", "lease_look_s"),
    ("garbi.hyper.leases.inquiry", "CALM_PACE_S", "calm_s"),
    ("garbi.hyper.leases.heartbeat", "FRESH_S", "fresh_s"),
    ("garbi.hyper.loops.keeping", "PERIOD_S", "audit_s"),
    ("garbi.iaas.loops.failover", "PERIOD_S", "calm_s"),
)


@contextmanager
def constants(pace: Pace) -> Iterator[None]:
    """Have the product's constants be those of a pace."""
    before = [
        (import_module(module), name, getattr(import_module(module), name, None)) for module, name, _ in CONSTANTS
    ]
    for module_name, name, field in CONSTANTS:
        setattr(import_module(module_name), name, getattr(pace, field))
    try:
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)
