"""Takes one step of a machine through its driver, with what belongs to it: its ports, its image, the disk that outlives it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from garbi.base.clock import Clock
from garbi.base.failpoints import reach
from garbi.hyper.converge import Step
from garbi.hyper.drivers.protocol import (
    Condition,
    DiskKeeper,
    Driver,
    ImageFile,
    KeptDisk,
    MachineDefinition,
    MissesStops,
    Observation,
)
from garbi.hyper.loops.looking import look_at, pause
from garbi.hyper.loops.publisher import Publisher
from garbi.hyper.loops.stops import Stops
from garbi.hyper.model.machine import Machine
from garbi.hyper.model.marks import marks_of
from garbi.hyper.store import kept, machines
from garbi.hyper.store.database import Database

NOTHING_KEPT = "its disk is not kept: it had none, or machines of its type keep none"


class Steps:
    """The steps of an agent's machines; each may be repeated. `look_later` has a machine looked at after so many seconds.

    `data_dir` is the agent's data directory, as machines are marked with it.
    """

    def __init__(
        self,
        database: Database,
        publisher: Publisher,
        image_of: Callable[[Machine], ImageFile],
        clock: Clock,
        stops: Stops,
        look_later: Callable[[Machine, float], None],
        data_dir: str,
    ) -> None:
        self._database = database
        self._publisher = publisher
        self._image_of = image_of
        self._clock = clock
        self._stops = stops
        self._look_later = look_later
        self._data_dir = data_dir
        self._kept: dict[str, KeptDisk] = {}

    def take(self, machine: Machine, driver: Driver, step: Step, seen: Observation | None) -> Observation | None:
        """Take the step; return what is to be seen of the machine afterwards. Raises what the driver raises."""
        after = seen
        match step:
            case Step.ADD:
                after = self._add(machine, driver)
            case Step.START:
                after = self._start(machine, driver, seen)
            case Step.STOP:
                after = self._stop(machine, driver)
            case Step.KILL:
                driver.kill(machine.id)
                after = Observation(machine.id, Condition.STOPPED)
            case Step.PAUSE:
                after = pause(machine, driver)
            case Step.KEEP:
                self._keep(machine, driver)
            case Step.REMOVE:
                driver.remove(machine.id)
                after = None
        return after

    def delete(self, machine: Machine, driver: Driver) -> None:
        """Forget the machine, its row last: who sees that it is gone finds its ports free, and no rule is left behind."""
        self._publisher.unpublish(machine, driver)
        reach("machine.remove.unpublished")
        disk = self._kept.get(machine.id)
        now = self._clock.now()
        with self._database.write() as transaction:
            machine = replace(machine, reason=NOTHING_KEPT if machine.keep_s else "")
            if disk is not None:
                record = kept.insert_kept(transaction, machine, disk, machine.keep_s, now)
                machine = replace(machine, reason=f"its disk is kept as {record.name} for {record.keep_s} s")
            machines.delete_machine(transaction, machine, now)
        self._kept.pop(machine.id, None)
        reach("machine.remove.recorded")

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
                marks=marks_of(machine, self._data_dir).to_texts(),
            )
        )
        return Observation(machine.id, Condition.STOPPED)

    def _start(self, machine: Machine, driver: Driver, seen: Observation | None) -> Observation | None:
        if seen is not None and seen.condition is Condition.PAUSED:  # it has its ports, whoever had them led there
            driver.start(machine.id)
            return look_at(machine, driver)
        self._stops.forget(machine.id)  # it was heard
        with self._publisher.starting(machine, driver):
            reach("machine.start.published")
            driver.start(machine.id)
        return look_at(machine, driver)

    def _stop(self, machine: Machine, driver: Driver) -> Observation | None:
        repeat_s = driver.repeat_stop_s if isinstance(driver, MissesStops) else None
        look_after_s = self._stops.ask(machine.id, repeat_s)
        driver.stop(machine.id)
        self._stops.hear(machine.id)
        self._look_later(machine, look_after_s)
        return look_at(machine, driver)

    def _keep(self, machine: Machine, driver: Driver) -> None:
        self._kept.pop(machine.id, None)
        if not isinstance(driver, DiskKeeper):
            return
        with self._database.read() as connection:
            name = kept.name_for(connection, machine)
        disk = driver.keep_disk(machine.id, name)
        if disk is not None:
            self._kept[machine.id] = disk
