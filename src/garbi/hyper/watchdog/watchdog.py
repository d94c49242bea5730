"""The watchdog of a host: ends what runs under a lease that has ended, though the agent is dead, hangs or cannot be reached.

What it does may be done twice. It writes, in memory that is of this boot, that a lease has ended before it ends a machine, and
goes on after a crash from there. The disk has that later. It waits a second for one that hangs, once.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

from garbi.base.clock import Clock
from garbi.base.errors import GarbiError, NotFound
from garbi.base.failpoints import reach
from garbi.base.hanging import PatientDisk
from garbi.hyper.leases.files import LeaseFiles, Sign
from garbi.hyper.leases.heartbeat import Heartbeat
from garbi.hyper.leases.inquiry import Ask, Inquiry
from garbi.hyper.leases.record import Lease
from garbi.hyper.leases.verdict import Verdict, judge
from garbi.hyper.settings import Settings
from garbi.hyper.watchdog.ending import Ended, Ending
from garbi.hyper.watchdog.kernel import KernelWatchdog
from garbi.hyper.watchdog.records import READ_S

log = logging.getLogger(__name__)

PACE_S = 1.0
"""Pause between two looks."""

SIGHT_S, BLIND_S = 60.0, 10.0
"""Pause between two looks at whether the engines can be seen, and whose all machines there are; the same while they cannot."""

CLEAN_LOOKS = 2
"""How often nothing is to be seen running, one look after the other, until the end is taken for complete: what the agent was
about to start when the lease ended comes between them."""


class Watchdog:
    """Guards one data directory. `tick` is one look at all leases; `run` looks every second."""

    def __init__(
        self,
        settings: Settings,
        disk: PatientDisk,
        clock: Clock,
        boot_id: str,
        ending: Ending,
        ask: Ask,
        kernel: KernelWatchdog | None = None,
    ) -> None:
        """Take the place of the watchdog.

        Raises DataDirLocked when another has it, NotFound where there is neither a data directory nor a lease of this boot.
        """
        self._data_dir = settings.data_dir
        self._disk = disk
        self._files = LeaseFiles(settings.data_dir, settings.runtime)
        self._taken_up = False
        if not self._files.controllers() and self._is_gone():
            raise NotFound(f"there is no data directory {self._data_dir}: the agent makes it at its first start")
        self._heartbeat = Heartbeat(settings.runtime)
        self._kept: dict[str, int] = {}
        self._unkept: dict[str, str] = {}
        self._clock = clock
        self._boot_id = boot_id
        self._ending = ending
        self._ask = ask
        self._kernel = kernel
        self._inquiries: dict[str, Inquiry] = {}
        self._read: dict[str, tuple[Sign, Lease | None]] = {}
        self._ended: dict[str, int] = {}
        self._clean: dict[str, tuple[int, int]] = {}
        self._said: dict[str, dict[str, str]] = {}
        self._obstacles: dict[str, str] = {}
        self._unlisted = ""
        self._saw_at: float | None = None

    def run(self, ending: threading.Event) -> None:
        """Look every second until `ending` is set, or the data directory is gone and no lease is left that may end by itself."""
        while not ending.is_set() and (self._is_wanted() or self._is_needed()):
            began = self._clock.monotonic()
            self.tick()
            ending.wait(max(PACE_S - (self._clock.monotonic() - began), 0.0))

    def tick(self) -> None:
        """Look at every lease once, and do what follows. Never raises."""
        self._take_up()
        seen = True
        controllers = sorted({*self._listed(), *self._read})
        for controller in controllers:
            self._beat()
            try:
                self._look_at(controller)
            except GarbiError as error:
                seen = False
                log.error("a lease cannot be looked at", extra={"controller": controller, "detail": error.detail})
            except Exception:  # the watchdog has to survive what it cannot foresee
                seen = False
                log.exception("a lease cannot be looked at", extra={"controller": controller})
        self._feed_kernel(seen)
        self._look_around(controllers)
        self._beat()

    def _take_up(self) -> None:
        """Learn once what the disk says of leases, as soon as it does."""
        if self._taken_up:
            return
        try:
            self._disk.within(READ_S, self._files.take_up)
            self._taken_up = True
        except GarbiError as error:
            if self._unkept.get("") != error.detail:
                log.warning("what the disk says of leases is not known", extra={"detail": error.detail})
            self._unkept[""] = error.detail

    def _is_gone(self) -> bool:
        """Whether there is no data directory; one that does not answer is there."""
        try:
            return not self._disk.within(READ_S, self._data_dir.is_dir)
        except (GarbiError, OSError):
            return False

    def _listed(self) -> Sequence[str]:
        """The controllers that have leases here. While they cannot be listed none is to be armed, and what is known ends."""
        before, self._unlisted = self._unlisted, ""
        try:
            return self._files.controllers()
        except OSError as error:
            self._unlisted = error.strerror or str(error)
            if self._unlisted != before:
                log.error("the leases cannot be listed", extra={"detail": self._unlisted})
            return ()

    def close(self) -> None:
        """Let another watchdog take the place."""
        if self._kernel is not None:
            self._kernel.follow(None, alive=False)
        self._heartbeat.release()

    def _beat(self) -> None:
        try:
            self._heartbeat.beat(self._boot_id, self._clock.since_boot(), blind=bool(self._obstacles or self._unlisted))
        except OSError as error:  # a disk that is full, broken or read-only saves no machine
            log.error("the watchdog cannot say that it works", extra={"detail": error.strerror})

    def _look_around(self, controllers: Sequence[str]) -> None:
        """Find out, once in a while, whether the end of a lease would be the end of its machines; if not, none is to be armed."""
        now, pause_s = self._clock.since_boot(), BLIND_S if self._obstacles else SIGHT_S
        if not controllers or (self._saw_at is not None and now - self._saw_at < pause_s):
            return
        before, self._obstacles, self._saw_at = self._obstacles, {}, now
        for controller in controllers:
            try:
                self._obstacles |= self._ending.obstacles(controller)
            except Exception as error:  # the watchdog has to survive what it cannot foresee
                self._obstacles[controller] = str(error) or type(error).__name__
        for subject, why in self._obstacles.items():
            if before.get(subject) != why:
                log.error("no lease is guarded", extra={"subject": subject, "detail": why})

    def _look_at(self, controller: str) -> None:
        lease = self._lease(controller)
        fenced = max(self._files.fenced(controller), self._ended.get(controller, 0))
        if lease is not None and lease.number > fenced and self._has_ended(lease):
            log.warning("a lease has ended: its machines are ended", extra=_fields(lease))
            fenced = self._end(lease)
        if fenced > 0:
            self._stop(controller, fenced)
            self._keep(controller, fenced)

    def _lease(self, controller: str) -> Lease | None:
        """The lease as it was last written; a file that is gone, with its directory or alone, takes back nothing of it."""
        sign = self._files.lease_sign(controller)
        known = self._read.get(controller)
        if known is None or (known[0] != sign and sign is not None):
            known = self._read[controller] = (sign, self._files.read(controller))
        return known[1]

    def _is_wanted(self) -> bool:
        """Whether there is an agent's directory, and no other watchdog that has taken the place."""
        return self._heartbeat.is_current() and not self._is_gone()

    def _is_needed(self) -> bool:
        """Whether a lease may end by itself yet, or has ended and its machines may still run."""
        return bool(self._armed())

    def _armed(self) -> list[Lease]:
        """The leases that may end by themselves yet, and those that have ended and whose machines may still run."""
        return [
            lease
            for controller, (_, lease) in self._read.items()
            if lease is not None and lease.armed and lease.boot_id == self._boot_id and not self._is_clean(lease)
        ]

    def _is_clean(self, lease: Lease) -> bool:
        """Whether a lease has ended, and certainly all that ran under it."""
        number, looks = self._clean.get(lease.controller, (0, 0))
        return number >= lease.number and looks >= CLEAN_LOOKS

    def _feed_kernel(self, seen: bool) -> None:
        """Let the host live on while all leases were `seen`, and what has ended has ended its machines."""
        if self._kernel is None:
            return
        armed = self._armed()
        over = any(self._files.fenced(lease.controller) >= lease.number for lease in armed)
        over = over or any(self._ended.get(lease.controller, 0) >= lease.number for lease in armed)
        self._kernel.follow(min((lease.ttl_s for lease in armed), default=None), alive=seen and not over)

    def _has_ended(self, lease: Lease) -> bool:
        if lease.boot_id != self._boot_id or not lease.armed:
            return False
        inquiry = self._inquiries.setdefault(lease.controller, Inquiry(self._ask, self._clock.since_boot))
        inquiry.pursue(lease)
        present = self._lease(lease.controller)  # a renewal may have come while others were asked
        if present is None:
            return False
        verdict = judge(present, self._boot_id, self._clock.since_boot(), inquiry.evidence)
        return verdict is Verdict.ENDED and present.number == lease.number

    def _end(self, lease: Lease) -> int:
        reach("watchdog.ended")
        try:
            return self._files.note_end(lease.controller, lease.number)
        except GarbiError as error:  # a memory that is full saves no machine
            log.error("the end of a lease cannot be noted", extra={**_fields(lease), "detail": error.detail})
            return lease.number
        finally:
            self._ended[lease.controller] = lease.number

    def _keep(self, controller: str, number: int) -> None:
        """Have the end of a lease on the disk, once it can be; what fails is said once."""
        if self._kept.get(controller, 0) >= number:
            return
        try:
            self._disk.within(READ_S, lambda: self._files.keep(controller, number))
        except GarbiError as error:
            if self._unkept.get(controller) != error.detail:
                words = {"controller": controller, "number": number, "detail": error.detail}
                log.error("the end of a lease cannot be written down", extra=words)
            self._unkept[controller] = error.detail
        else:
            self._kept[controller] = number
            self._unkept.pop(controller, None)

    def _stop(self, controller: str, fenced: int) -> None:
        """End what runs under the leases up to `fenced`, until two looks have found nothing."""
        number, looks = self._clean.get(controller, (0, 0))
        if number == fenced and looks >= CLEAN_LOOKS:
            return
        self._beat()
        reach("watchdog.stop.begun")
        done = self._ending.end(controller, fenced)
        reach("watchdog.stop.done")
        for machine_id in done.stopped:
            log.warning("a machine was ended with its lease", extra={"controller": controller, "machine": machine_id})
        self._complain(controller, done)
        self._clean[controller] = (fenced, looks + 1 if done.clean and number == fenced else int(done.clean))

    def _complain(self, controller: str, done: Ended) -> None:
        """Say what is in the way, once for as long as it is."""
        complaints = {**done.unseen, **done.unknown, **done.running}
        for subject, why in complaints.items():
            if self._said.get(controller, {}).get(subject) != why:
                log.error("cannot be ended", extra={"controller": controller, "subject": subject, "detail": why})
        self._said[controller] = complaints


def _fields(lease: Lease) -> dict[str, object]:
    return {"controller": lease.controller, "number": lease.number, "ttl_s": lease.ttl_s}
