"""Brings machines to where they are wished: looks, asks `next_step`, records the step, takes it, records what became of it.

A machine is in the hands of at most one worker at a time. A crash at any instruction is repaired by taking the recorded step
again, since every step may be repeated.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace

from garbi.base.clock import Clock
from garbi.base.crews import Crews
from garbi.base.errors import DriverUnavailable, GarbiError, TemporaryError
from garbi.base.failpoints import reach
from garbi.hyper.converge import Act, Decision, Progress, Settle, Step, next_step
from garbi.hyper.drivers.protocol import (
    Condition,
    Driver,
    ImageFile,
    MachineDefinition,
    MissesStops,
    Observation,
)
from garbi.hyper.drivers.registry import DriverRegistry
from garbi.hyper.loops.looking import look_at, look_at_all, pause
from garbi.hyper.loops.publisher import Publisher
from garbi.hyper.model.machine import Machine, State, Wish
from garbi.hyper.model.query import MachineQuery
from garbi.hyper.store import machines, meta
from garbi.hyper.store.database import Database

log = logging.getLogger(__name__)

SURE = (State.PENDING, State.REMOVING, State.FAILED)
"""States that a driver's silence does not change: nothing was begun, it goes on going, or the failure is what matters."""

HALTING = MachineQuery({"state": State.STOPPING, "wish": Wish.RUNNING})
"""Machines that the agent before this one may have asked to end, and that are to run again: their end is waited for."""

SHORTEST_RETRY_S = 1.0
LONGEST_RETRY_S = 60.0


@dataclass(frozen=True, slots=True)
class ConvergerSettings:
    """Machines of one type worked on at once, and the times in seconds: grace of a stop, pause between full looks."""

    workers: int = 8
    stop_deadline_s: float = 20.0
    resync_period_s: float = 30.0


@dataclass(slots=True)
class _Stop:
    """A stop that was asked for: when patience ends, and when it is asked for again, in monotonic seconds."""

    deadline: float
    again: float = math.inf


class Converger:
    """The worker threads of one agent, and the thread that looks at everything once in a while."""

    def __init__(
        self,
        database: Database,
        drivers: DriverRegistry,
        publisher: Publisher,
        image_of: Callable[[Machine], ImageFile],
        clock: Clock,
        boot_id: str,
        settings: ConvergerSettings,
    ) -> None:
        self._database = database
        self._drivers = drivers
        self._publisher = publisher
        self._image_of = image_of
        self._clock = clock
        self._boot_id = boot_id
        self._settings = settings
        self._crews = Crews(clock.monotonic, settings.workers, self._work)
        self._stops: dict[str, _Stop] = {}
        self._retries: dict[str, int] = {}
        self._watched: set[str] = set()
        self._watch_lock = threading.Lock()
        self._to_resync: set[str] = set()
        self._resync_wanted = threading.Event()
        self._closing = threading.Event()
        self._resyncing = threading.Thread(target=self._resync_forever, name="converger-resync", daemon=True)

    def start(self) -> None:
        """Look at every machine once, then begin to work."""
        with self._database.write() as transaction:
            machines.wish_again_after_reboot(transaction, self._boot_id, self._clock.now())
            halting = machines.search(transaction.connection, HALTING)
        for machine in halting:
            self._stops[machine.id] = _Stop(self._clock.monotonic() + self._settings.stop_deadline_s)
            self._crews.add_later(machine.type, machine.id, self._settings.stop_deadline_s)
        self._resyncing.start()

    def wake(self, machine: Machine) -> None:
        """Have a machine looked at now."""
        self._crews.add(machine.type, machine.id)

    def watch(self, type_name: str) -> Driver:
        """The driver of that type, whose events wake this converger from now on."""
        driver = self._drivers.get(type_name)
        with self._watch_lock:
            if self._closing.is_set():
                raise DriverUnavailable("the agent is being closed")
            if type_name not in self._watched:
                meta.note_driver(self._database, type_name)
                driver.watch(lambda machine_id: self._notice(type_name, machine_id))
                self._watched.add(type_name)
        return driver

    def resync(self) -> None:
        """Have every machine compared with what its driver sees, soon."""
        self._resync_wanted.set()

    def stop(self) -> None:
        """Begin nothing more; what was begun is taken up again at the next start."""
        with self._watch_lock:  # a driver that is about to be closed is not about to be watched
            self._closing.set()
        self._crews.close()
        self._resync_wanted.set()

    def join(self, patience_s: float) -> None:
        """Wait for the workers, at most `patience_s` seconds altogether."""
        deadline = self._clock.monotonic() + patience_s
        self._crews.join(patience_s)
        self._resyncing.join(max(deadline - self._clock.monotonic(), 0))

    def _notice(self, type_name: str, machine_id: str | None) -> None:
        if machine_id is not None:
            self._crews.add(type_name, machine_id)
            return
        self._to_resync.add(type_name)
        self._resync_wanted.set()

    # The look at everything

    def _resync_forever(self) -> None:
        self._resync_all(None)
        while not self._closing.is_set():
            asked = self._resync_wanted.wait(self._settings.resync_period_s)
            self._resync_wanted.clear()
            if self._closing.is_set():
                return
            only = {self._to_resync.pop() for _ in range(len(self._to_resync))}
            self._resync_all(only if asked and only else None)

    def _resync_all(self, only: set[str] | None) -> None:
        """Compare all machines, or those of some types, with one look per driver; queue those that differ."""
        try:
            self._database.balance()
            with self._database.read() as connection:
                rows = machines.search(connection, MachineQuery())
            for type_name in sorted({row.type for row in rows if only is None or row.type in only}):
                self._resync_type(type_name, [row for row in rows if row.type == type_name])
            self._publisher.resync()
        except Exception:  # the loop has to survive what it cannot foresee
            if not self._closing.is_set():
                log.exception("resync failed")

    def _resync_type(self, type_name: str, rows: list[Machine]) -> None:
        try:
            driver = self.watch(type_name)
            seen = look_at_all(driver)
        except TemporaryError as error:
            if not self._closing.is_set():  # otherwise the driver was closed under the look
                self._mark_unknown(rows, error.detail)
            return
        for row in rows:
            if self._differs(row, seen.get(row.id)):
                self._crews.add(type_name, row.id)
            else:
                self._publisher.arrange(row, driver)

    def _differs(self, machine: Machine, seen: Observation | None) -> bool:
        decision = next_step(machine, seen, self._progress(machine.id))
        if isinstance(decision, Settle):
            return self._settled(machine, decision) != machine
        return True

    def _mark_unknown(self, rows: list[Machine], reason: str) -> None:
        """Nothing can be said of these machines; what a worker wrote meanwhile is newer, and stays."""
        with self._database.write() as transaction:
            for row in rows:
                sure = row.state in (*SURE, State.UNKNOWN)
                if not sure and machines.find(transaction.connection, row.id) == row:
                    after = replace(row, state=State.UNKNOWN, reason=reason, updated_at=self._clock.now())
                    machines.save_state(transaction, row, after)

    # The work on one machine

    def _work(self, type_name: str, machine_id: str) -> None:
        try:
            self._converge(type_name, machine_id)
        except Exception as error:  # a worker has to survive what it cannot foresee
            log.exception("step failed", extra={"machine": machine_id})
            self._retry(type_name, machine_id, f"internal error: {type(error).__name__}")

    def _converge(self, type_name: str, machine_id: str) -> None:
        unseen = object()
        seen: Observation | object | None = unseen
        while not self._closing.is_set():
            machine = self._find(machine_id)
            if machine is None:
                self._forget(machine_id)
                return
            if machine.type != type_name:  # a later machine of that id, which is in the hands of its own crew
                return
            try:
                driver = self.watch(machine.type)
                if seen is unseen:
                    seen = look_at(machine, driver)
                decision: Decision = next_step(machine, seen, self._progress(machine_id))  # type: ignore[arg-type]
                if not isinstance(decision, Act):
                    self._finish(machine, driver, decision)
                    return
                seen = self._act(machine, driver, decision, seen)  # type: ignore[arg-type]
            except GarbiError as error:
                self._fall_short(machine, error)
                return

    def _act(self, machine: Machine, driver: Driver, act: Act, seen: Observation | None) -> Observation | None:
        """Record that a step begins, and take it; return what is to be seen of the machine afterwards."""
        machine = self._save(machine, replace(machine, state=act.during, reason=""))
        reach(f"machine.{act.step}.begun")
        seen = self._take(machine, driver, act.step, seen)
        reach(f"machine.{act.step}.done")
        if act.step is Step.REMOVE:
            self._delete(machine, driver)
        return seen

    def _take(self, machine: Machine, driver: Driver, step: Step, seen: Observation | None) -> Observation | None:
        match step:
            case Step.ADD:
                return self._add(machine, driver)
            case Step.START:
                return self._start(machine, driver, seen)
            case Step.STOP:
                return self._stop(machine, driver)
            case Step.KILL:
                driver.kill(machine.id)
                return Observation(machine.id, Condition.STOPPED)
            case Step.PAUSE:
                return pause(machine, driver)
            case Step.REMOVE:
                driver.remove(machine.id)
                return None

    def _add(self, machine: Machine, driver: Driver) -> Observation:
        image = self._image_of(machine)
        driver.prepare(image)
        reach("machine.add.prepared")
        driver.add(
            MachineDefinition(
                id=machine.id,
                name=machine.name,
                image=image,
                mem=machine.mem,
                cpus=machine.cpus,
                ports=machine.ports,
                labels=machine.labels,
                full_copy=machine.full_copy,
                address=machine.address if machine.mac else None,
                mac=machine.mac,
            )
        )
        return Observation(machine.id, Condition.STOPPED)

    def _start(self, machine: Machine, driver: Driver, seen: Observation | None) -> Observation | None:
        if seen is not None and seen.condition is Condition.PAUSED:  # it has its ports, whoever had them led there
            driver.start(machine.id)
            return look_at(machine, driver)
        self._stops.pop(machine.id, None)  # it was heard
        with self._publisher.starting(machine, driver):
            reach("machine.start.published")
            driver.start(machine.id)
        return look_at(machine, driver)

    def _stop(self, machine: Machine, driver: Driver) -> Observation | None:
        now = self._clock.monotonic()
        stop = self._stops.setdefault(machine.id, _Stop(now + self._settings.stop_deadline_s))
        if isinstance(driver, MissesStops):
            stop.again = now + driver.repeat_stop_s
        driver.stop(machine.id)
        self._crews.add_later(machine.type, machine.id, min(stop.again, stop.deadline) - now)
        return look_at(machine, driver)

    # What becomes of a step

    def _finish(self, machine: Machine, driver: Driver, decision: Decision) -> None:
        if not isinstance(decision, Settle):
            return
        self._forget(machine.id)
        after = self._settled(machine, decision)
        self._publisher.arrange(after, driver)  # who is told that a machine stopped may rely on its ports
        after = self._save(machine, after)
        if after is not machine:
            reach(f"machine.{after.state}.recorded")
        if machine.mac and machine.state is not after.state:
            self._publisher.sync()  # after a start the machine's port of the bridge is there: it may be set up now

    def _settled(self, machine: Machine, decision: Settle) -> Machine:
        on = decision.state in (State.RUNNING, State.PAUSED)
        reserved = machine.address if machine.mac else None  # an address that is not reserved goes to others
        return replace(
            machine,
            state=decision.state,
            reason=decision.reason,
            address=decision.address or reserved,
            settled_generation=machine.generation,
            boot_id=self._boot_id if on else machine.boot_id,
        )

    def _fall_short(self, machine: Machine, error: GarbiError) -> None:
        if self._closing.is_set():
            return  # the driver was closed under the step: it is taken again at the next start
        if isinstance(error, TemporaryError):
            self._postpone(machine, error)
        else:
            self._give_up(machine, error)

    def _postpone(self, machine: Machine, error: TemporaryError) -> None:
        """Try again later. A machine whose driver does not answer is unknown, unless nothing of it is sure yet."""
        unknown = isinstance(error, DriverUnavailable) and machine.state not in SURE
        present = self._find(machine.id) or machine
        state = State.UNKNOWN if unknown else present.state
        self._save(present, replace(present, state=state, reason=error.detail))
        self._crews.add_later(machine.type, machine.id, self._pause_before_retry(machine.id))

    def _give_up(self, tried: Machine, error: GarbiError) -> None:
        """The step failed for good: the machine is failed, with the cause. A removal stays wished, and is tried again."""
        machine = self._find(tried.id)
        if machine is None:
            return
        self._stops.pop(tried.id, None)
        log.warning("step failed", extra={"machine": tried.id, "code": error.code, "detail": error.detail})
        after = replace(machine, reason=error.detail, settled_generation=tried.generation)
        if tried.wish is Wish.REMOVED:
            self._save(machine, after)
            self._crews.add_later(tried.type, tried.id, self._pause_before_retry(tried.id))
            return
        self._save(machine, replace(after, state=State.FAILED))
        self._crews.add(tried.type, tried.id)  # look once more: it may run in spite of the error

    def _retry(self, type_name: str, machine_id: str, reason: str) -> None:
        self._crews.add_later(type_name, machine_id, self._pause_before_retry(machine_id))
        with suppress(GarbiError):  # a database that cannot be written may be why the step failed
            machine = self._find(machine_id)
            if machine is not None:
                self._save(machine, replace(machine, reason=reason))

    def _pause_before_retry(self, machine_id: str) -> float:
        tries = self._retries.get(machine_id, 0)
        self._retries[machine_id] = tries + 1
        return float(min(SHORTEST_RETRY_S * 2**tries, LONGEST_RETRY_S))

    def _progress(self, machine_id: str) -> Progress:
        stop = self._stops.get(machine_id)
        if stop is None:
            return Progress.NOT_ASKED
        now = self._clock.monotonic()
        if now >= stop.deadline:
            return Progress.OVERDUE
        return Progress.ASK_AGAIN if now >= stop.again else Progress.ASKED

    # The row

    def _find(self, machine_id: str) -> Machine | None:
        with self._database.read() as connection:
            return machines.find(connection, machine_id)

    def _save(self, before: Machine, after: Machine) -> Machine:
        if after == before:
            return before
        after = replace(after, updated_at=self._clock.now())
        with self._database.write() as transaction:
            machines.save_state(transaction, before, after)
        return after

    def _delete(self, machine: Machine, driver: Driver) -> None:
        """Forget the machine, its row last: who sees that it is gone finds its ports free, and no rule is left behind."""
        self._publisher.unpublish(machine, driver)
        reach("machine.remove.unpublished")
        with self._database.write() as transaction:
            machines.delete_machine(transaction, machine, self._clock.now())
        reach("machine.remove.recorded")

    def _forget(self, machine_id: str) -> None:
        self._stops.pop(machine_id, None)
        self._retries.pop(machine_id, None)
