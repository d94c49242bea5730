"""How late this host is by itself: an agent, or its watchdog, that waits for a processor is not one that nobody hears.

It is told to the controller with each renewal, which then gives longer leases and waits longer for answers. The host itself
lengthens nothing: the controller could not know.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from pathlib import Path

from garbi.hyper.host.capacity import run_delay_s
from garbi.hyper.leases.heartbeat import beat_age_s

WINDOW_S = 60.0
"""How long a delay is remembered."""

BUSY_S = 3.0
"""So old may the last beat of a watchdog be that is asking others: that is no delay."""


class Lateness:
    """The worst delay of the last minute. `clock` tells seconds since the boot. For one thread that notes; others may read."""

    def __init__(self, runtime: Path, boot_id: str, clock: Callable[[], float]) -> None:
        self._runtime, self._boot_id, self._clock = runtime, boot_id, clock
        self._noted: deque[tuple[float, float]] = deque()
        self._waited_s = run_delay_s()
        self.worst_s = 0.0

    def note(self, late_s: float) -> None:
        """Note how much later than it wanted the caller got the processor, and what else tells of a delay."""
        now, waited_s = self._clock(), run_delay_s()
        age_s = beat_age_s(self._runtime, self._boot_id, now)
        behind_s = 0.0 if age_s is None else age_s - BUSY_S
        self._noted.append((now, max(late_s, waited_s - self._waited_s, behind_s, 0.0)))
        self._waited_s = waited_s
        while self._noted[0][0] < now - WINDOW_S:
            self._noted.popleft()
        self.worst_s = max(each for _, each in self._noted)
