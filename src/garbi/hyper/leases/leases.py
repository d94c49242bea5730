"""The leases that controllers have on this host, as the agent keeps them: renewed by REST, asked by whoever starts a machine.

A renewal is the regular check of a controller, every few seconds: it reads no table and waits for no disk. What outlives a boot
is in the database; what does not is in memory, and in files there that the watchdog reads.
"""

from __future__ import annotations

import contextlib
import hmac
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from sqlalchemy import Connection

from garbi.base.clock import Clock
from garbi.base.errors import GarbiError, NoSpace, StaleOrder, StorageFailed
from garbi.base.failpoints import reach
from garbi.hyper.leases.files import LeaseFiles, Sign
from garbi.hyper.leases.heartbeat import beats
from garbi.hyper.leases.inquiry import Ask, Inquiry
from garbi.hyper.leases.lateness import Lateness
from garbi.hyper.leases.record import Lease, Renewal, check, check_peers, refuse_stale, renew
from garbi.hyper.leases.verdict import ACTIVE, NOTHING_SAID, WORDS, Verdict, judge
from garbi.hyper.model.machine import Machine, NodeFailurePolicy
from garbi.hyper.store import leases as table
from garbi.hyper.store.database import Database
from garbi.hyper_api.assignment import CONTROLLER_LABEL, EPOCH_LABEL, Assignment

log = logging.getLogger(__name__)

PACE_S = 1.0
"""Pause between two looks at what the watchdog, or a fence, wrote."""


@dataclass(frozen=True, slots=True)
class LeaseStatus:
    """A lease, and what follows from it now. `moment` is now, in boot `boot_id`; `age_s` the time since a renewal.
    `delay_s` is how late this host was lately by itself."""

    lease: Lease
    boot_id: str
    moment: float
    active: bool
    guarded: bool
    expires_in_s: float | None
    age_s: float | None
    peers_heard: int
    delay_s: float = 0.0


class Leases:
    """The leases of one host."""

    def __init__(
        self, database: Database, files: LeaseFiles, runtime: Path, clock: Clock, boot_id: str, ask: Ask
    ) -> None:
        """Take up the leases that are written down; `ask` asks other nodes. In `runtime` is the watchdog's heartbeat."""
        self._database = database
        self._files = files
        self._runtime = runtime
        self._clock = clock
        self._boot_id = boot_id
        self._ask = ask
        self._began = clock.since_boot()
        self._lateness = Lateness(runtime, boot_id, clock.since_boot)
        self._lock = threading.Lock()
        self._ending = threading.Lock()
        self._looking = threading.Lock()
        self._leases: dict[str, Lease] = {}  # written by renewals alone; what has ended is beside it
        self._fenced: dict[str, int] = {}
        self._kept: dict[str, int] = {}
        self._unkept: dict[str, int] = {}
        self._owed: dict[str, table.LeaseRow] = {}  # who is heard, and is not written down yet
        self._signs: dict[str, Sign] = {}
        self._inquiries: dict[str, Inquiry] = {}
        self._told: dict[str, tuple[bool, int]] = {}
        self._listeners: list[Callable[[], None]] = []
        self._wake = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="leases", daemon=True)
        self._take_up()

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call `listener` whenever machines may run that might not before, or the other way round."""
        self._listeners.append(listener)

    def start(self) -> None:
        """Begin to watch over the leases."""
        self._thread.start()

    def stop(self) -> None:
        """Watch no longer, and wait until nobody is asked any more."""
        self._closing = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()

    def look(self) -> None:
        """Look at every lease once: ask other nodes where it is time to, and note what has ended. Done regularly by itself."""
        with self._looking:
            for controller in self._known():
                if not self._closing:
                    self._look_after(controller)
            self._tell_changes()

    def renew(self, renewal: Renewal) -> LeaseStatus:
        """Renew a lease, or begin it; raises InvalidField, StaleOrder when a later one was heard, NoSpace, StorageFailed.

        Waits for no disk, but where it is the first one of a controller, of a term or of a number.
        """
        known = self._leases.get(renewal.controller)
        if known is None or known.peers != renewal.peers:
            renewal = check_peers(renewal)
        check(renewal)
        with self._lock:
            known = self._present(renewal.controller)
            refuse_stale(known, renewal)
            if known is None or (known.term, known.holder, known.number) != _identity(renewal):
                self._note(known, renewal)
            now = self._clock.since_boot()
            lease = renew(known, renewal, self._boot_id, now, beats(self._runtime, self._boot_id, now))
            self._files.write(lease)
            self._leases[lease.controller] = lease
        if known is None or known.peers != lease.peers:
            self._wake.set()
        status = self._status(lease)
        if self._told.get(lease.controller) != (status.active, lease.number):
            self._tell_changes()
        return status

    def hold(self, machine: Machine) -> str | None:
        """Why a machine may not run now; None when it may. Waits for nothing."""
        controller = _lessor(machine)
        lease = None if controller is None else self._present(controller)
        if lease is None:
            return None
        verdict = self._judge(lease)
        if verdict not in ACTIVE:
            return f"{WORDS[verdict]}: it waits for controller {lease.controller[:8]}"
        if max(machine.lease, 1) < lease.number:  # a controller that knew no leases ordered it as one of the first does
            return f"it was given up with lease {machine.lease}: it waits for the word of controller {lease.controller[:8]}"
        return None

    def check(self, connection: Connection, assignment: Assignment, machine: Machine | None = None) -> None:
        """Raise StaleOrder unless an order, to `machine` if there is one, comes from who has the lease now.

        Inside the transaction that carries the order out: what is refused by a later renewal comes after it.
        """
        row = table.find(connection, assignment.controller)
        lease = self._present(assignment.controller)
        owed = assignment.controller in self._owed
        if row is None or lease is None or owed or (row.term, row.holder) != (assignment.term, assignment.holder):
            detail = f"the order comes from term {assignment.term} of controller {assignment.controller}"
            raise StaleOrder(f"{detail}, which does not have the lease here", stale="controller")
        if row.number != assignment.lease or row.fenced >= row.number or self._judge(lease) not in ACTIVE:
            detail = f"the order comes under lease {assignment.lease}"
            raise StaleOrder(f"{detail}, and lease {row.number} is the last one here, or has ended", stale="lease")
        if machine is not None and machine.labels.get(CONTROLLER_LABEL) == assignment.controller:
            epoch = machine.labels.get(EPOCH_LABEL, "")
            if epoch != str(assignment.epoch):
                detail = f"the order is for assignment {assignment.epoch} of machine {machine.id}"
                raise StaleOrder(f"{detail}, which is here as assignment {epoch[:20]}", stale="epoch")

    def all(self) -> list[LeaseStatus]:
        """All leases, by the id of their controller."""
        present = [self._present(controller) for controller in self._known()]
        return [self._status(lease) for lease in present if lease is not None]

    def is_witness_key(self, controller: str, key: bytes) -> bool:
        """Whether another node shows the key by which it may ask for the age of a lease."""
        lease = self._leases.get(controller)
        return lease is not None and lease.witness_key != "" and hmac.compare_digest(lease.witness_key.encode(), key)

    def age_s(self, controller: str) -> float | None:
        """Seconds since a controller was last heard, or that it was certainly not; None for an unknown one."""
        lease = self._leases.get(controller)
        if lease is None:
            return None
        heard_at = lease.renewed if lease.boot_id == self._boot_id and lease.renewed is not None else self._began
        return max(self._clock.since_boot() - heard_at, 0.0)

    def guarded(self) -> bool:
        """Whether a watchdog works beside the agent."""
        return beats(self._runtime, self._boot_id, self._clock.since_boot())

    # What is written down

    def _take_up(self) -> None:
        self._files.take_up()
        with self._database.read() as connection:
            rows = {row.controller: row for row in table.search(connection)}
        for controller in sorted(rows.keys() | set(self._files.controllers())):
            row = rows.get(controller) or table.LeaseRow(controller, "", 0, 0, 0)
            lease = self._files.read(controller)
            if lease is None or lease.number != row.number:
                lease = Lease(controller, row.holder, row.term, row.number)
            # An agent that died between the two has written of a later controller in the row alone: the lease is the same.
            # Where the file has the later one, the row is owed: the disk could not be written.
            if lease.term > row.term and controller in rows:
                self._owed[controller] = replace(row, holder=lease.holder, term=lease.term)
            else:
                lease = replace(lease, holder=row.holder, term=row.term)
            self._leases[controller] = lease
            self._fenced[controller] = row.fenced

    def _present(self, controller: str) -> Lease | None:
        """The lease with what a fence has written meanwhile, which one call of the kernel tells."""
        sign = self._files.fence_sign(controller)
        if sign != self._signs.get(controller):
            self._end(controller, self._files.fenced(controller))
            self._signs[controller] = sign
        fenced = self._fenced.get(controller, 0)
        lease = self._leases.get(controller)
        if lease is None:  # a fence may know a controller that was never heard here
            return Lease(controller, fenced=fenced) if fenced else None
        return lease if lease.fenced >= fenced else replace(lease, fenced=fenced)

    def _end(self, controller: str, number: int) -> None:
        """Take it that the leases up to `number` have ended for good."""
        with self._ending:
            if number > self._fenced.get(controller, 0):
                self._fenced[controller] = number
        self._wake.set()

    def _note(self, known: Lease | None, renewal: Renewal) -> None:
        """Write durably who is heard now. Of a later controller of the same lease that may be done later: a disk that cannot be
        written is no reason to end what most nodes would let run."""
        fenced = 0 if known is None else known.fenced
        row = table.LeaseRow(renewal.controller, renewal.holder, renewal.term, renewal.number, fenced)
        try:
            self._record(row)
        except (StorageFailed, NoSpace) as error:
            if known is None or known.number != renewal.number:
                raise
            self._owed[row.controller] = row
            log.error("who renews a lease cannot be written down", extra={**_fields(row), "detail": error.detail})
        else:
            self._owed.pop(row.controller, None)

    def _record(self, row: table.LeaseRow) -> None:
        """Write a row, unless a later one is there."""
        reach("lease.renew.begun")
        self._files.keep_holder(row.controller, row.holder, row.term, row.number)
        with self._database.write() as transaction:
            before = table.find(transaction.connection, row.controller)
            if before is None or (before.term, before.number) <= (row.term, row.number):
                table.save(transaction, row, self._clock.now())
        reach("lease.renew.recorded")

    def _keep_owed(self, controller: str) -> None:
        """Write down who renews a lease, where that could not be done at once."""
        row = self._owed.get(controller)
        if row is None or self._database.unwritable():
            return
        with contextlib.suppress(GarbiError):  # that was said
            self._record(row)
            with self._lock:  # a later one may be owed by now
                if self._owed.get(controller) == row:
                    del self._owed[controller]

    # What follows from it

    def _judge(self, lease: Lease) -> Verdict:
        """What is known of a lease. That it has ended, only who has just asked the others decides: see `look`."""
        verdict = self._verdict(lease)
        return Verdict.HOLD_ON if verdict is Verdict.ENDED else verdict

    def _verdict(self, lease: Lease) -> Verdict:
        inquiry = self._inquiries.get(lease.controller)
        evidence = NOTHING_SAID if inquiry is None else inquiry.evidence
        return judge(lease, self._boot_id, self._clock.since_boot(), evidence)

    def _status(self, lease: Lease) -> LeaseStatus:
        now = self._clock.since_boot()
        inquiry = self._inquiries.get(lease.controller)
        known_here = lease.boot_id == self._boot_id
        return LeaseStatus(
            lease=lease,
            boot_id=self._boot_id,
            moment=now,
            active=self._judge(lease) in ACTIVE,
            guarded=beats(self._runtime, self._boot_id, now),
            expires_in_s=lease.expiry - now if known_here and lease.expiry is not None else None,
            age_s=now - lease.renewed if known_here and lease.renewed is not None else None,
            peers_heard=0 if inquiry is None else inquiry.peers_heard(lease),
            delay_s=self._lateness.worst_s,
        )

    def _tell_changes(self) -> None:
        present = [self._present(controller) for controller in self._known()]
        told = {
            lease.controller: (self._judge(lease) in ACTIVE, lease.number) for lease in present if lease is not None
        }
        if told != self._told:
            self._told = told
            for listener in self._listeners:
                listener()

    def _known(self) -> list[str]:
        return sorted(self._leases.keys() | self._fenced.keys())

    # The thread that watches over them

    def _run(self) -> None:
        while not self._closing:
            pace_s, began = PACE_S if self._known() else None, self._clock.since_boot()
            if not self._wake.wait(pace_s) and pace_s is not None:
                self._lateness.note(self._clock.since_boot() - began - pace_s)
            self._wake.clear()
            try:
                self.look()
            except Exception:  # the thread has to survive what it cannot foresee
                log.exception("the leases could not be looked at")

    def _look_after(self, controller: str) -> None:
        try:
            lease = self._present(controller)
            if lease is not None and lease.boot_id == self._boot_id:
                inquiry = self._inquiries.setdefault(controller, Inquiry(self._ask, self._clock.since_boot))
                inquiry.pursue(lease, calm=True)
                self._decide(controller)
            self._keep_owed(controller)
            self._keep_end(controller, self._fenced.get(controller, 0))
        except Exception:  # one must not keep the others from being looked after
            log.exception("a lease could not be looked after", extra={"controller": controller})

    def _decide(self, controller: str) -> None:
        """Take note that a lease has ended, for good, whatever others say later."""
        with self._lock:  # a renewal comes before, or after
            lease = self._present(controller)
            if lease is not None and self._verdict(lease) is Verdict.ENDED:
                self._end(controller, lease.number)

    def _keep_end(self, controller: str, number: int) -> None:
        """Let the end of a lease outlive this agent, whoever found it out."""
        if number <= self._kept.get(controller, 0):
            return
        try:
            self._files.fence(controller, number)
            with self._database.write() as transaction:
                table.fence(transaction, controller, number, self._clock.now())
        except GarbiError as error:  # a disk that is full or broken: it is tried again, and said once
            if self._unkept.get(controller) != number:
                self._unkept[controller] = number
                words = {"controller": controller, "number": number, "detail": error.detail}
                log.error("the end of a lease cannot be written down", extra=words)
            return
        self._kept[controller] = number
        log.warning("a lease has ended", extra={"controller": controller, "number": number})


def _identity(renewal: Renewal) -> tuple[int, str, int]:
    return renewal.term, renewal.holder, renewal.number


def _fields(row: table.LeaseRow) -> dict[str, object]:
    return {"controller": row.controller, "term": row.term, "number": row.number}


def _lessor(machine: Machine) -> str | None:
    """The controller under whose lease a machine runs; None when it stays here whatever becomes of that."""
    return machine.labels.get(CONTROLLER_LABEL) if machine.on_node_failure is NodeFailurePolicy.RECREATE else None
