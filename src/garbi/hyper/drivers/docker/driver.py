"""The docker driver: the ten verbs on containers, each repeatable, each on what carries the marks of this cluster only."""

from __future__ import annotations

import contextlib
from dataclasses import replace

from garbi.base.errors import (
    AlreadyExists,
    Busy,
    Conflict,
    DriverFailed,
    DriverUnavailable,
    GarbiError,
    ImageRejected,
    NoSpace,
    NotFound,
)
from garbi.base.failpoints import reach
from garbi.hyper.drivers.docker.abilities import DockerAbilities
from garbi.hyper.drivers.docker.containers import Marks, container_config, observe_inspected, stop_signal
from garbi.hyper.drivers.docker.engine import DEFAULT_HOST, Engine
from garbi.hyper.drivers.docker.events import EventWatch
from garbi.hyper.drivers.docker.fleet import Fleet, Inspected
from garbi.hyper.drivers.docker.images import Images
from garbi.hyper.drivers.docker.kept import ContainerKeeper
from garbi.hyper.drivers.docker.notes import Notes
from garbi.hyper.drivers.docker.processes import ContainerProcesses
from garbi.hyper.drivers.docker.survey import EngineSurvey
from garbi.hyper.drivers.protocol import (
    Condition,
    DriverContext,
    DriverInfo,
    ImageFile,
    MachineDefinition,
    Notify,
    Observation,
)
from garbi.hyper.model.image import ImageType

REMOVAL_TIMEOUT_S = 60
"""How long to wait for a removal that somebody else began."""

_ON = (Condition.RUNNING, Condition.PAUSED)


class DockerDriver(ContainerKeeper, DockerAbilities):
    """Machines that are containers of one Docker Engine; see the package for the settings."""

    image_types = frozenset({ImageType.DOCKER, ImageType.ROOTFS})

    def __init__(self, context: DriverContext) -> None:
        registries = frozenset(
            filter(None, (each.strip() for each in context.settings.get("registries", "").split(",")))
        )
        self._clock = context.clock
        self._marks = Marks(context.cluster_id)
        self._engine = Engine(context.settings.get("host") or DEFAULT_HOST)
        self._notes = Notes(context.data_dir / "containers", context.run_dir and context.run_dir / "containers")
        self._processes = ContainerProcesses(self._engine.host, self._marks, self._notes)
        self._fleet = Fleet(self._engine, self._marks, self._notes)
        self._images = Images(self._engine, self._marks, registries, context.data_dir)
        self._survey = EngineSurvey(self._engine, self._notes, self._processes)
        self._watch: EventWatch | None = None

    def info(self) -> DriverInfo:
        try:
            engine = self._engine.version()
        except Exception as error:  # whatever a stranger on that socket answers, this is how the user learns of it
            reason = error.detail if isinstance(error, GarbiError) else f"Docker Engine answers nonsense: {error}"
            return DriverInfo("docker", available=False, reason=reason)
        details = {"host": self._engine.host, "api": engine.api, "system": engine.system}
        return DriverInfo("docker", available=True, version=engine.version, details=details)

    def prepare(self, image: ImageFile) -> None:
        if image.type not in self.image_types:
            raise ImageRejected("image", f"containers are not made from images of type {image.type}")
        self._images.prepare(image)

    def add(self, machine: MachineDefinition) -> None:
        made = False
        try:
            made = self._create(machine)
            if made:
                reach("docker.add.created")
        except Exception as error:
            # The answer may be lost, and not what was asked for; or it could not be noted which container it is.
            if made or isinstance(error, DriverUnavailable | DriverFailed | NoSpace):
                self._undo_creation(machine.id)
            raise

    def start(self, machine_id: str) -> None:
        found = self._fleet.get(machine_id)
        condition = observe_inspected(machine_id, found).condition
        if condition is Condition.RUNNING:
            return
        self._notes.write(machine_id, found["Id"])
        self._fleet.act(
            "start",
            found,
            lambda client: client.unpause(found["Id"]) if condition is Condition.PAUSED else client.start(found["Id"]),
            lambda now: now is Condition.RUNNING,
        )

    def stop(self, machine_id: str) -> None:
        found = self._fleet.find(machine_id)
        if found is not None:
            self._signal("stop", machine_id, found, stop_signal(found))

    def kill(self, machine_id: str) -> None:
        found = self._fleet.find(machine_id)
        if found is not None:
            self._signal("kill", machine_id, found, "SIGKILL")

    def remove(self, machine_id: str) -> None:
        found = self._fleet.find(machine_id)
        if found is None:
            self._notes.forget(machine_id)
            return
        reach("docker.remove.delete")
        try:
            with self._engine.talk() as client:
                client.remove_container(found["Id"], v=True, force=True)
        except NotFound:
            pass
        except Conflict:  # somebody else, or an earlier call that was cut off, is removing it
            self._wait_until_gone(machine_id, found)
        reach("docker.remove.deleted")
        self._notes.forget(machine_id)

    def observe(self, machine_id: str | None = None) -> list[Observation]:
        before = self._engine.life()
        seen = self._fleet.observe_all() if machine_id is None else self._fleet.observe_one(machine_id)
        off = any(each.condition not in _ON for each in seen)
        after = self._engine.life() if off else before
        return [replace(each, engine_life=before if each.condition in _ON else after) for each in seen]

    def watch(self, notify: Notify) -> None:
        self._notes.repeat()
        self._watch = EventWatch(self._engine, self._marks, self._notes, notify, self._clock)
        self._watch.start()

    def close(self) -> None:
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.close()
        self._engine.close()

    def _create(self, machine: MachineDefinition) -> bool:
        """Make the container; False when it was there. What stands in the way, and may go, is cleared away once."""
        config, name = container_config(machine, self._marks), self._marks.container(machine.id)
        if self._notes.of(machine.id) is not None and self._is_there(machine.id):
            return False
        reach("docker.add.create")
        try:
            self._fleet.create(machine.id, config)
        except NotFound:  # somebody cleaned the engine's images up since `prepare`
            self.prepare(machine.image)
            self._fleet.create(machine.id, config)
        except Conflict as error:
            if self._is_there(machine.id):
                return False
            if self._fleet.find_of_name(machine.id) is not None:
                raise AlreadyExists(f"a container called {name} exists, and this agent did not make it") from error
            self._fleet.create(machine.id, config)
        return True

    def _is_there(self, machine_id: str) -> bool:
        """Whether the machine has its container. One that is half removed is removed, and what is noted of one that is gone."""
        found = self._fleet.find(machine_id)
        if found is not None and observe_inspected(machine_id, found).condition is not Condition.PARTIAL:
            return True
        self.remove(machine_id)
        return False

    def _undo_creation(self, machine_id: str) -> None:
        """Remove what the engine may have made although its answer was lost, unless it was used since."""
        with contextlib.suppress(GarbiError):
            found = self._fleet.find(machine_id)
            if found is not None and found["State"].get("Status") == "created":
                self.remove(machine_id)

    def _signal(self, verb: str, machine_id: str, found: Inspected, signal: str) -> None:
        if observe_inspected(machine_id, found).condition in _ON:
            self._fleet.act(verb, found, lambda client: client.kill(found["Id"], signal), lambda now: now not in _ON)

    def _wait_until_gone(self, machine_id: str, found: Inspected) -> None:
        with contextlib.suppress(NotFound), self._engine.talk() as client:
            client.wait(found["Id"], timeout=REMOVAL_TIMEOUT_S, condition="removed")
        now = self._fleet.find(machine_id)
        if now is not None and now["Id"] == found["Id"]:
            raise Busy(f"the container of machine {machine_id} is still being removed")
