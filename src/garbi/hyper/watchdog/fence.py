"""`hyper fence`: ends a lease and all that runs under it, now, and says so: what a controller asks of a host over SSH.

Works while the agent runs, hangs or is dead, while daemons do not answer, and where the agent's database is lost.
"""

from __future__ import annotations

import contextlib
import threading
from dataclasses import asdict, dataclass, field

from garbi.base.clock import Clock
from garbi.base.errors import GarbiError, InvalidField, NotFound, StorageFailed
from garbi.base.failpoints import reach
from garbi.base.hanging import PatientDisk
from garbi.hyper.host.identity import refuse_copied
from garbi.hyper.leases.files import LeaseFiles
from garbi.hyper.leases.record import CONTROLLER_FORM
from garbi.hyper.settings import Settings
from garbi.hyper.watchdog.ending import Ended, Ending
from garbi.hyper.watchdog.records import READ_S, RecordReader

LIMIT_S = 15.0
"""How long machines that do not end are tried again."""

KEEP_S = 5.0
"""How long the disk has to take the end of the lease."""

SETTLE_S = 0.5
"""Pause before the second look: what the agent was about to start comes before it."""


@dataclass(frozen=True, slots=True)
class FenceReport:
    """What has ended: the lease, and the machines that ran under it.

    `cluster_id` is the agent's, empty where its database is lost. `running` are those that could not be ended or ruled out, `why`
    says why; `unseen` are engines that cannot be looked through, and why; `left` are those of the controller that were not
    touched. `earlier` are machines that do not run of agents which had the data directory before, by their cluster ids.
    """

    fenced: int
    boot_id: str
    cluster_id: str = ""
    stopped: list[str] = field(default_factory=list)
    running: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    why: dict[str, str] = field(default_factory=dict)
    unseen: dict[str, str] = field(default_factory=dict)
    earlier: dict[str, list[str]] = field(default_factory=dict)

    @property
    def proven(self) -> bool:
        """Whether it is certain that nothing runs that was to end."""
        return not self.running and not self.unseen

    def to_document(self) -> dict[str, object]:
        """The report as it is printed."""
        return asdict(self)


class Fence:
    """Fences of one host, by the files and the machines of one data directory."""

    def __init__(
        self, settings: Settings, disk: PatientDisk, records: RecordReader, boot_id: str, ending: Ending, clock: Clock
    ) -> None:
        self._disk = disk
        self._data_dir = settings.data_dir
        self._files = LeaseFiles(settings.data_dir, settings.runtime)
        self._records = records
        self._boot_id = boot_id
        self._ending = ending
        self._clock = clock

    def fence(self, controller: str, number: int) -> FenceReport:
        """End the leases of a controller up to `number` for good, and its machines; try for a while, then say what is left.

        Machines end first; their end is no proof before the lease's is on the disk. Raises InvalidField, NoSpace, StorageFailed
        or FinalError when it cannot be written down, FinalError where the directory is that of another host, for which nothing
        can be said here, NotFound where nothing says that an agent has ever worked: neither the
        directory, nor a machine at an engine.
        """
        if not CONTROLLER_FORM.match(controller):
            raise InvalidField("controller", "the controller is an id: 32 digits of lower-case hexadecimal")
        with contextlib.suppress(StorageFailed):  # it is looked at again before anything is proven
            self._disk.within(READ_S, lambda: refuse_copied(self._data_dir))
        self._require_agent(controller, number)
        fenced = self._begin(controller, number)
        reach("fence.noted")
        deadline = self._clock.monotonic() + LIMIT_S
        stopped: set[str] = set()
        looks = 0
        while True:
            done = self._ending.end(controller, fenced)
            reach("fence.stopped")
            stopped |= done.stopped
            looks = looks + 1 if done.proven else 0
            if looks == 2 or (not done.proven and self._clock.monotonic() >= deadline):
                self._disk.within(KEEP_S, lambda: self._keep(controller, fenced))
                reach("fence.recorded")
                return self._report(fenced, stopped, done)
            threading.Event().wait(SETTLE_S)

    def _begin(self, controller: str, number: int) -> int:
        """End the lease for as long as this host runs: nobody starts anything under it from now on."""
        with contextlib.suppress(GarbiError):  # what the disk does not say now, it says to who starts next
            self._disk.within(READ_S, self._files.take_up)
        return self._files.note_end(controller, number)

    def _keep(self, controller: str, fenced: int) -> None:
        """Have the end of the lease on the disk, which is that of this host's agent."""
        refuse_copied(self._data_dir)
        self._files.keep(controller, fenced)

    def _require_agent(self, controller: str, number: int) -> None:
        """A mark would fence nobody where no agent has worked; where one has, it is written though its directory is gone."""
        if self._records.has_worked():
            return
        if not self._ending.has_any(controller, number):
            raise NotFound(f"no agent has worked in {self._data_dir}")
        with contextlib.suppress(OSError):  # what is wrong is said when the mark is written
            self._data_dir.mkdir(mode=0o711, parents=True, exist_ok=True)

    def _report(self, fenced: int, stopped: set[str], done: Ended) -> FenceReport:
        why = {**done.running, **done.unknown}
        return FenceReport(
            fenced=fenced,
            boot_id=self._boot_id,
            cluster_id=done.cluster_id,
            stopped=sorted(stopped - why.keys()),
            running=sorted(why),
            left=sorted(done.left),
            why=why,
            unseen=dict(done.unseen),
            earlier={cluster_id: sorted(ids) for cluster_id, ids in sorted(done.earlier.items())},
        )
