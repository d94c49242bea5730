"""The fake driver: every verb of the protocol, on the pretended daemon."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from garbi.base.clock import Clock
from garbi.base.errors import Conflict, DriverFailed, DriverUnavailable, GarbiError, ImageRejected
from garbi.base.failpoints import reach
from garbi.hyper.drivers.fake.daemon import daemon_in_file, daemon_in_process
from garbi.hyper.drivers.fake.faults import FakeSettings
from garbi.hyper.drivers.fake.kept import FakeKeeper
from garbi.hyper.drivers.fake.machine import FakeMachine
from garbi.hyper.drivers.fake.obstacles import Obstacles
from garbi.hyper.drivers.fake.own import OwnMachines
from garbi.hyper.drivers.fake.watcher import Watcher
from garbi.hyper.drivers.protocol import (
    Condition,
    DriverContext,
    DriverInfo,
    Figures,
    ImageFile,
    MachineDefinition,
    MarkedMachine,
    Notify,
    Observation,
)
from garbi.hyper.model.image import ImageType

VERSION = "1"
CORRUPT = b"garbi-fake corrupt"
"""What the content of an image begins with that is to be refused."""


class FakeAbilities:
    """What fake machines can do beyond the verbs: be made from a name alone, be found, be paused, show a console, be measured."""

    takes_any_image = True

    _clock: Clock
    _machines: OwnMachines
    _obstacles: Obstacles

    def survey(self) -> list[MarkedMachine]:
        self._obstacles.pass_by("observe")
        return self._machines.of_all_agents()

    def survey_processes(self) -> list[MarkedMachine]:
        raise DriverUnavailable("fake machines are no processes: only their daemon knows what runs")

    def pause(self, machine_id: str) -> None:
        reach("fake.pause.begin")
        self._obstacles.pass_by("pause", machine_id)
        now = self._clock.monotonic()

        def frozen(found: FakeMachine) -> FakeMachine:
            if not found.powered:
                raise Conflict(f"machine {machine_id} does not run, it cannot be paused")
            return found if found.condition is Condition.PAUSED else found.paused(now)

        self._machines.change_made(machine_id, frozen)
        reach("fake.pause.frozen")

    def console_log(self, machine_id: str, limit: int) -> bytes:
        self._obstacles.check_answers()
        console = self._machines.one(machine_id).console.encode("utf-8", "replace")
        return console[-limit:] if limit > 0 else b""

    def figures(self, machine_id: str) -> Figures:
        self._obstacles.check_answers()
        machine = self._machines.one(machine_id)
        if not machine.powered:
            raise Conflict(f"machine {machine_id} does not run, there is nothing to measure")
        return machine.figures(self._clock.monotonic())


class FakeDriver(FakeKeeper, FakeAbilities):
    """A type of machine that only pretends; the package says its settings, FakeWorld plays with its machines."""

    image_types = frozenset(ImageType)

    def __init__(self, context: DriverContext) -> None:
        settings, mistake = _read(context)
        self._daemon = (
            daemon_in_file(Path(settings.engine or context.data_dir))
            if settings.persist
            else daemon_in_process(settings.engine or context.cluster_id)
        )
        self._clock = context.clock
        self._cluster_id = context.cluster_id
        self._machines = OwnMachines(self._daemon, context.cluster_id, context.clock)
        self._obstacles = Obstacles(settings, mistake, self._daemon, context.clock)
        self._watcher: Watcher | None = None

    def info(self) -> DriverInfo:
        try:
            self._obstacles.check_answers()
            count = len(self._machines.all())
        except GarbiError as error:
            return DriverInfo("fake", available=False, reason=error.detail)
        return DriverInfo("fake", available=True, version=VERSION, details={"machines": str(count)})

    def prepare(self, image: ImageFile) -> None:
        self._obstacles.pass_by("prepare")
        _check_content(image)

    def add(self, machine: MachineDefinition) -> None:
        self._obstacles.check_answers()
        reach("fake.add.begin")
        if self._machines.claim(machine).condition is not Condition.PARTIAL:
            return
        try:
            reach("fake.add.half-made")
            self._obstacles.pass_by("add", machine.id)
            _check_content(machine.image)
            self._machines.change(machine.id, _made)
            reach("fake.add.made")
        except Exception:
            self._machines.drop(machine.id)
            raise

    def start(self, machine_id: str) -> None:
        reach("fake.start.begin")
        self._obstacles.pass_by("start", machine_id)
        now = self._clock.monotonic()
        self._machines.change_made(
            machine_id, lambda found: found if found.condition is Condition.RUNNING else found.started(now)
        )
        reach("fake.start.running")

    def stop(self, machine_id: str) -> None:
        reach("fake.stop.begin")
        self._obstacles.pass_by("stop", machine_id)
        delay, now = self._obstacles.delays["stop"], self._clock.monotonic()

        def asked(found: FakeMachine) -> FakeMachine:
            if not found.powered or found.ends_at is not None:
                return found
            return replace(found, ends_at=now + delay) if delay else found.ended()

        self._machines.change(machine_id, asked)
        reach("fake.stop.asked")

    def kill(self, machine_id: str) -> None:
        reach("fake.kill.begin")
        self._obstacles.pass_by("kill", machine_id)
        self._machines.change(machine_id, _off)
        reach("fake.kill.off")

    def remove(self, machine_id: str) -> None:
        reach("fake.remove.begin")
        self._obstacles.pass_by("remove", machine_id)
        self._machines.change(machine_id, _off)
        reach("fake.remove.off")
        self._machines.drop(machine_id)
        reach("fake.remove.gone")

    def observe(self, machine_id: str | None = None) -> list[Observation]:
        self._obstacles.pass_by("observe", machine_id)
        if not self._daemon.life.names_machines:
            return []
        found = self._machines.all() if machine_id is None else filter(None, [self._machines.find(machine_id)])
        return [replace(machine.observation(), engine_life=self._daemon.life.number()) for machine in found]

    def watch(self, notify: Notify) -> None:
        self._watcher = self._watcher or Watcher(self._daemon, self._look, notify)

    def close(self) -> None:
        self._obstacles.close()
        if self._watcher is not None:
            self._watcher.close()
        self._daemon.close()

    def _look(self) -> list[FakeMachine]:
        self._obstacles.check_answers()
        return self._machines.all()


def _read(context: DriverContext) -> tuple[FakeSettings, str]:
    """The settings, or what is wrong with them: construction never fails, so `info` and the verbs will say it."""
    try:
        return FakeSettings.read(context.settings), ""
    except ValueError as error:
        return FakeSettings.read({}), str(error)


def _made(found: FakeMachine) -> FakeMachine:
    return replace(found, condition=Condition.STOPPED) if found.condition is Condition.PARTIAL else found


def _off(found: FakeMachine) -> FakeMachine:
    return found.ended() if found.powered else found


def _check_content(image: ImageFile) -> None:
    if not image.path.exists():  # a name alone
        return
    try:
        with image.path.open("rb") as file:
            corrupt = file.read(len(CORRUPT)) == CORRUPT
    except OSError as error:
        raise DriverFailed(f"the content of the image cannot be read: {error.strerror}") from error
    if corrupt:
        raise ImageRejected("image", "the content of the image is corrupt")
