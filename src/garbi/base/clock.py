"""Time as an argument: wall time for what people read, monotonic time for deadlines."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Where time comes from. Deadlines use `monotonic`, so that a clock jump changes nothing but timestamps (invariant I12)."""

    def now(self) -> datetime:
        """The present wall time, UTC."""

    def monotonic(self) -> float:
        """Seconds since an arbitrary start; never goes back."""

    def since_boot(self) -> float:
        """Seconds since this host booted, its sleep included: the same for every process of the host."""


class SystemClock:
    """The clock of this host."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    def since_boot(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)


def to_wire(moment: datetime) -> str:
    """ISO 8601 in UTC with microseconds and a Z, which sorts as text."""
    utc = moment if moment.tzinfo is UTC else moment.astimezone(UTC)
    return utc.isoformat(timespec="microseconds")[:-6] + "Z"


def from_wire(text: str) -> datetime:
    """The moment that `to_wire` wrote."""
    return datetime.fromisoformat(text)
