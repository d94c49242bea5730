"""Brings machines to where they are wished: looks, asks `next_step`, records the step, takes it, records what became of it.

A machine is in the hands of at most one worker at a time. A crash at any instruction is repaired by taking the recorded step
again, since every step may be repeated.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace

from garbi.base.clock import Clock
from garbi.base.crews import Crews
from garbi.base.errors import DriverUnavailable, GarbiError, TemporaryError, UnknownType
from garbi.base.failpoints import reach
from garbi.base.tally import Tally
from garbi.hyper.converge import (
    ENDED_WITH_ENGINE,
    Act,
    Circumstances,
    Decision,
    Setback,
    Settle,
    Step,
    WishAgain,
    after_end,
    after_refusal,
    next_step,
)
from garbi.hyper.drivers.protocol import Condition, Driver, ImageFile, Observation
from garbi.hyper.drivers.registry import DriverRegistry
from garbi.hyper.loops.engines import Engines
from garbi.hyper.loops.looking import SURE, look_at
from garbi.hyper.loops.publisher import Publisher
from garbi.hyper.loops.refusals import is_final
from garbi.hyper.loops.restarts import Restarts, RestartTimes
from garbi.hyper.loops.resync import Resync
from garbi.hyper.loops.steps import Steps
from garbi.hyper.loops.stops import Stops
from garbi.hyper.model.machine import Awaits, Machine, State, Wish
from garbi.hyper.model.query import MachineQuery
from garbi.hyper.store import machines, meta
from garbi.hyper.store.database import Database

log = logging.getLogger(__name__)

HALTING = MachineQuery({"state": State.STOPPING, "wish": Wish.RUNNING})
"""Machines that the agent before this one may have asked to end, and that are to run again: their end is waited for."""

SHORTEST_RETRY_S = 1.0
LONGEST_RETRY_S = 60.0


@dataclass(frozen=True, slots=True)
class ConvergerSettings:
    """Machines of one type worked on at once, and the times in seconds: grace of a stop, pause between full looks, restarts.

    `data_dir` is the agent's data directory, as machines are marked with it; `host_ends` tells whether the host goes down.
    """

    workers: int = 8
    stop_deadline_s: float = 20.0
    resync_period_s: float = 30.0
    restarts: RestartTimes = field(default_factory=RestartTimes)
    data_dir: str = ""
    host_ends: Callable[[], bool] = bool


class Converger:
    """The worker threads of one agent. `hold` says of a machine why it may not run now, or None: it is asked before each step."""

    def __init__(
        self,
        database: Database,
        drivers: DriverRegistry,
        publisher: Publisher,
        image_of: Callable[[Machine], ImageFile],
        clock: Clock,
        boot_id: str,
        settings: ConvergerSettings,
        hold: Callable[[Machine], str | None],
        tally: Tally,
    ) -> None:
        self._database = database
        self._drivers = drivers
        self._publisher = publisher
        self._clock = clock
        self._boot_id = boot_id
        self._hold = hold
        self._crews = Crews(clock.monotonic, settings.workers, self._work)
        self._stops = Stops(clock, settings.stop_deadline_s)
        self._restarts = Restarts(clock, settings.restarts, self._look_later, tally)
        self._steps = Steps(database, publisher, image_of, clock, self._stops, self._look_later, settings.data_dir)
        self._engines = Engines(clock, self._look_later, settings.host_ends)
        self._retries: dict[str, int] = {}
        self._watched: set[str] = set()
        self._watch_lock = threading.Lock()
        self._closing = threading.Event()
        self._resync = Resync(
            database,
            publisher,
            clock,
            settings.resync_period_s,
            self.watch,
            self._differs,
            self._crews.add,
            self._note_loss,
        )

    def start(self) -> None:
        """Look at every machine once, then begin to work."""
        with self._database.write() as transaction:
            machines.wish_again_after_reboot(transaction, self._boot_id, self._clock.now())
            halting = machines.search(transaction.connection, HALTING)
        for machine in halting:
            if machine.awaits is not Awaits.LEASE:  # that one was powered off
                self._look_later(machine, self._stops.expect(machine.id))
        self._resync.start()

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
        """Have every machine compared with what its driver sees, and with what it may do, soon."""
        self._resync.want()

    def looked_s_ago(self) -> float | None:
        """Seconds since the last look at everything ended; None before the first."""
        at = self._resync.looked_at
        return None if at is None else self._clock.monotonic() - at

    def waiting(self) -> dict[str, int]:
        """How many machines wait for a worker, by their type."""
        return self._crews.waiting()

    def stop(self) -> None:
        """Begin nothing more; what was begun is taken up again at the next start."""
        with self._watch_lock:  # a driver that is about to be closed is not about to be watched
            self._closing.set()
        self._resync.close()
        self._crews.close()

    def join(self, patience_s: float) -> None:
        """Wait for the workers, at most `patience_s` seconds altogether."""
        deadline = self._clock.monotonic() + patience_s
        self._crews.join(patience_s)
        self._resync.join(max(deadline - self._clock.monotonic(), 0))

    def _notice(self, type_name: str, machine_id: str | None) -> None:
        if machine_id is not None:
            self._crews.add(type_name, machine_id)
        else:
            self._resync.want(type_name)

    def _look_later(self, machine: Machine, delay_s: float) -> None:
        if delay_s > 0:
            self._crews.add_later(machine.type, machine.id, delay_s)
        else:
            self._crews.add(machine.type, machine.id)

    # The work on one machine

    def _work(self, type_name: str, machine_id: str) -> None:
        try:
            self._converge(type_name, machine_id)
        except Exception as error:  # a worker has to survive what it cannot foresee
            log.error("step failed", exc_info=not isinstance(error, GarbiError), extra={"machine": machine_id})
            self._retry(type_name, machine_id, f"internal error: {type(error).__name__}")

    def _converge(self, type_name: str, machine_id: str) -> None:
        unseen = object()
        seen: Observation | object | None = unseen
        taken: Step | None = None
        step: Step | None = None
        while not self._closing.is_set():
            machine = self._find(machine_id)
            if machine is None:
                self._forget(machine_id)
                self._restarts.forget(machine_id)
                return
            if machine.type != type_name:  # a later machine of that id, which is in the hands of its own crew
                return
            step = None
            try:
                driver = self.watch(machine.type)
                if seen is unseen:
                    seen = look_at(machine, driver)
                decision = self._decide(machine, seen, taken)  # type: ignore[arg-type]
                if isinstance(decision, WishAgain):
                    self._wish_again(machine, decision.reason)
                    continue
                if not isinstance(decision, Act):
                    self._finish(machine, driver, decision)
                    return
                step = decision.step
                seen, taken = self._act(machine, driver, decision, seen)  # type: ignore[arg-type]
            except GarbiError as error:
                self._fall_short(machine, step, None if seen is unseen else seen, error)  # type: ignore[arg-type]
                return

    def _decide(self, machine: Machine, seen: Observation | None, taken: Step | None = None) -> Decision:
        return next_step(machine, seen, self._circumstances(machine, seen, taken))

    def _circumstances(self, machine: Machine, seen: Observation | None, taken: Step | None = None) -> Circumstances:
        return Circumstances(
            stop=self._stops.progress(machine.id),
            taken=taken,
            hold=self._hold(machine),
            due=self._restarts.due(machine),
            rested=self._restarts.rested(machine, seen is not None and seen.condition is Condition.RUNNING),
            pauses_s=self._restarts.times.pauses_s,
            unsure=taken is None and self._engines.unsure_of(machine, seen),
        )

    def _differs(self, machine: Machine, seen: Observation | None) -> bool:
        decision = self._decide(machine, seen)
        if isinstance(decision, Settle):
            return self._settled(machine, decision) != machine
        return True

    def _act(
        self, machine: Machine, driver: Driver, act: Act, seen: Observation | None
    ) -> tuple[Observation | None, Step | None]:
        """Record that a step begins, and take it; return what is to be seen of the machine afterwards, and what was done."""
        restarts = machine.restarts if act.restarts is None else act.restarts
        begun = replace(machine, state=act.during, reason=act.reason, awaits=act.awaits, restarts=restarts)
        machine = self._save(machine, begun)
        name = "restart" if act.awaits is Awaits.RESTART else act.step
        reach(f"machine.{name}.begun")
        if act.during is State.STARTING and self._hold(machine) is not None:  # since it was decided
            return seen, None
        if act.restarts is not None:
            self._restarts.count(machine)
        seen = self._steps.take(machine, driver, act.step, seen)
        reach(f"machine.{name}.done")
        if act.step is Step.REMOVE:
            self._steps.delete(machine, driver)
        return seen, act.step

    # What becomes of a step

    def _finish(self, machine: Machine, driver: Driver, decision: Decision) -> None:
        after = self._settled(machine, decision) if isinstance(decision, Settle) else None
        if after is None or not self._engines.accepts(machine, after):
            return
        self._forget(machine.id)
        self._publisher.arrange(after, driver)  # who is told that a machine stopped may rely on its ports
        after = self._save(machine, after)
        if after is not machine:
            reach(f"machine.{after.state}.recorded")
            if machine.awaits is Awaits.RESTART and after.awaits is Awaits.NOTHING:
                reach("machine.restart.recorded")
        self._restarts.begin(after)
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
            engine_life=decision.engine_life,
            awaits=decision.awaits,
            restarts=machine.restarts if decision.restarts is None else decision.restarts,
            attempts=decision.attempts,
        )

    def _fall_short(self, machine: Machine, step: Step | None, seen: Observation | None, error: GarbiError) -> None:
        if self._closing.is_set():
            return  # the driver was closed under the step: it is taken again at the next start
        if isinstance(error, TemporaryError):
            self._postpone(machine, error)
        elif step is None:
            self._give_up(machine, error)
        else:
            self._set_back(machine, step, seen, error)

    def _postpone(self, machine: Machine, error: TemporaryError) -> None:
        """Try again later. A machine whose driver does not answer is unknown, unless nothing of it is sure yet."""
        if isinstance(error, DriverUnavailable):
            self._note_loss(machine.type)
        unknown = isinstance(error, DriverUnavailable) and machine.state not in SURE
        present = self._find(machine.id) or machine
        state = State.UNKNOWN if unknown else present.state
        told = present.state is State.FAILED and (present.settled or present.attempts)
        why = present.reason if told else error.detail
        self._save(present, replace(present, state=state, reason=why))
        self._look_later(machine, self._pause_before_retry(machine.id))

    def _give_up(self, tried: Machine, error: GarbiError) -> None:
        """Nothing can be said of the machine, or written down: that passes, unless there is no driver for it at all."""
        machine = self._find(tried.id)
        if machine is None or machine.wish is Wish.REMOVED or not isinstance(error, UnknownType):
            self._retry(tried.type, tried.id, error.detail)
            return
        self._stops.forget(tried.id)
        log.warning("machine given up", extra={"machine": tried.id, "code": error.code, "detail": error.detail})
        failed = replace(machine, state=State.FAILED, awaits=Awaits.NOTHING, attempts=0)
        self._save(machine, replace(failed, reason=error.detail, settled_generation=tried.generation))

    def _set_back(self, tried: Machine, step: Step, seen: Observation | None, error: GarbiError) -> None:
        """A step was refused: it is repeated, or given up, and the row says which, why and how often."""
        machine = self._find(tried.id)
        if machine is None:
            return
        fields = {"machine": tried.id, "step": step, "code": error.code, "detail": error.detail}
        log.warning("step refused", extra=fields)
        self._restarts.refused(machine, step)
        if machine.awaits is Awaits.RESTART and machine.settled:  # nobody but the agent wanted the step
            rest = after_end(machine, error.detail, self._circumstances(machine, None))
            self._save(machine, self._settled(machine, rest))
            self._crews.add(machine.type, machine.id)
            return
        setback = after_refusal(
            machine, step, seen, error.detail, is_final(step, error), self._circumstances(machine, seen)
        )
        pause_s = setback.pause_s
        if pause_s is not None and tried.wish is Wish.STOPPED:
            pause_s = self._stops.refuse(machine.id, pause_s)
        if machine.generation != tried.generation:  # something else is wished since, and nobody waits for this any more
            pause_s = None
        else:
            self._save(machine, self._after(machine, setback))
            reach("machine.refusal.recorded")
        self._look_later(
            machine, pause_s or 0.0
        )  # also at once, where nothing is due: it may run in spite of the error

    def _after(self, machine: Machine, setback: Setback) -> Machine:
        return replace(
            machine,
            state=setback.state,
            reason=setback.reason,
            awaits=setback.awaits,
            attempts=setback.attempts,
            settled_generation=machine.generation if setback.settles else machine.settled_generation,
        )

    def _retry(self, type_name: str, machine_id: str, reason: str) -> None:
        self._crews.add_later(type_name, machine_id, self._pause_before_retry(machine_id))
        with suppress(GarbiError):  # a database that cannot be written may be why the step failed
            machine = self._find(machine_id)
            if machine is not None:
                self._save(machine, replace(machine, reason=reason))

    def _note_loss(self, type_name: str) -> None:
        """An engine does not answer: what ended a moment ago ended with it, and is to run again."""
        for machine in self._engines.note_loss(type_name):
            present = self._find(machine.id)
            if present is not None and present.generation == machine.generation:
                self._wish_again(replace(present, restarts=machine.restarts), ENDED_WITH_ENGINE)
                self._crews.add(machine.type, machine.id)

    def _wish_again(self, machine: Machine, reason: str) -> None:
        with self._database.write() as transaction:
            machines.wish_again(transaction, machine, reason, self._clock.now())

    def _pause_before_retry(self, machine_id: str) -> float:
        tries = self._retries.get(machine_id, 0)
        self._retries[machine_id] = tries + 1
        return float(min(SHORTEST_RETRY_S * 2**tries, LONGEST_RETRY_S))

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

    def _forget(self, machine_id: str) -> None:
        self._stops.forget(machine_id)
        self._retries.pop(machine_id, None)
