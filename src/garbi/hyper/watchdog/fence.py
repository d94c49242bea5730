"""`hyper fence`: ends a lease and all that runs under it, now, and says so: what a controller asks of a host over SSH.

Works while the agent runs, hangs or is dead, and while daemons do not answer.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

from garbi.base.clock import Clock
from garbi.base.errors import InvalidField
from garbi.base.failpoints import reach
from garbi.hyper.leases.files import LeaseFiles
from garbi.hyper.leases.record import CONTROLLER_FORM
from garbi.hyper.watchdog.leased import Leased
from garbi.hyper.watchdog.stopping import Stopping

LIMIT_S = 15.0
"""How long machines that do not end are tried again."""

SETTLE_S = 0.5
"""Pause before the second look: what the agent was about to start comes before it."""


@dataclass(frozen=True, slots=True)
class FenceReport:
    """What has ended: the lease, and the machines that ran under it. `running` are those that could not be ended, and why not;
    `left` are those of the controller that stay with this host, and were not touched."""

    fenced: int
    boot_id: str
    stopped: list[str] = field(default_factory=list)
    running: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    why: dict[str, str] = field(default_factory=dict)

    def to_document(self) -> dict[str, object]:
        """The report as it is printed."""
        return asdict(self)


class Fence:
    """Fences of one host."""

    def __init__(
        self,
        files: LeaseFiles,
        boot_id: str,
        stopping: Stopping,
        leased: Callable[[str, int], Leased],
        clock: Clock,
    ) -> None:
        self._files = files
        self._boot_id = boot_id
        self._stopping = stopping
        self._leased = leased
        self._clock = clock

    def fence(self, controller: str, number: int) -> FenceReport:
        """End the leases of a controller up to `number` for good, and its machines; try for a while, then say what is left.

        Raises InvalidField, NoSpace or FinalError when the end cannot be written down, DatabaseUnavailable.
        """
        if not CONTROLLER_FORM.match(controller):
            raise InvalidField("controller", "the controller is an id: 32 digits of lower-case hexadecimal")
        fenced = self._files.fence(controller, number)
        reach("fence.recorded")
        deadline = self._clock.monotonic() + LIMIT_S
        stopped: set[str] = set()
        looks = 0
        while True:
            found = self._leased(controller, fenced)
            done = self._stopping.stop(found.ending)
            reach("fence.stopped")
            stopped |= set(done.stopped)
            looks = looks + 1 if not done.running else 0
            if looks == 2 or (done.running and self._clock.monotonic() >= deadline):
                return FenceReport(
                    fenced=fenced,
                    boot_id=self._boot_id,
                    stopped=sorted(stopped - done.running.keys()),
                    running=sorted(done.running),
                    left=sorted(machine.id for machine in found.left),
                    why=done.running,
                )
            threading.Event().wait(SETTLE_S)
