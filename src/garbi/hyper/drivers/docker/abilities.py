"""What the docker driver can do beyond the ten verbs."""

from __future__ import annotations

from garbi.base.errors import Conflict
from garbi.hyper.drivers.docker.containers import observe_inspected
from garbi.hyper.drivers.docker.engine import Engine
from garbi.hyper.drivers.docker.figures import figures_from
from garbi.hyper.drivers.docker.fleet import Fleet
from garbi.hyper.drivers.docker.images import Images
from garbi.hyper.drivers.docker.notes import Notes
from garbi.hyper.drivers.docker.processes import ContainerProcesses
from garbi.hyper.drivers.docker.survey import EngineSurvey
from garbi.hyper.drivers.protocol import Condition, Figures, MarkedMachine


class DockerAbilities:
    """Pausable, ProcessFinder, Surveyor, ConsoleLog, LiveFigures, ImageKeeper, HostFootprint and RegistryPuller."""

    _engine: Engine
    _fleet: Fleet
    _images: Images
    _notes: Notes
    _processes: ContainerProcesses
    _survey: EngineSurvey

    def pause(self, machine_id: str) -> None:
        found = self._fleet.get(machine_id)
        condition = observe_inspected(machine_id, found).condition
        if condition is Condition.PAUSED:
            return
        if condition is not Condition.RUNNING:
            raise Conflict(f"machine {machine_id} does not run, it cannot be paused")
        self._fleet.act("pause", found, lambda client: client.pause(found["Id"]), lambda now: now is Condition.PAUSED)

    def processes_of(self, machine_id: str) -> list[int]:
        return self._processes.find(machine_id)

    def survey(self) -> list[MarkedMachine]:
        return self._survey.of_engine()

    def survey_processes(self) -> list[MarkedMachine]:
        return self._survey.of_processes()

    def console_log(self, machine_id: str, limit: int) -> bytes:
        """The last `limit` bytes of the console's output; what the ring buffer of the log has dropped is not there."""
        found = self._fleet.get(machine_id)
        if limit <= 0:
            return b""
        kept = b""
        with self._engine.talk() as client:
            for piece in client.logs(
                found["Id"], stream=True, follow=False, tail=limit
            ):  # no line is shorter than a byte
                kept = (kept + piece)[-limit:]
        return kept

    def figures(self, machine_id: str) -> Figures:
        found = self._fleet.get(machine_id)
        if observe_inspected(machine_id, found).condition not in (Condition.RUNNING, Condition.PAUSED):
            raise Conflict(f"machine {machine_id} does not run, there is nothing to measure")
        with self._engine.talk() as client:
            return figures_from(client.stats(found["Id"], stream=False, one_shot=True))

    def drop_image(self, sha256: str) -> None:
        self._images.drop(sha256)

    def withdraw(self) -> None:
        """Delete the engine's copies of our images, and our notes; there is nothing else that serves all machines."""
        self._images.drop_all()
        self._notes.destroy()

    def pull(self, reference: str) -> str:
        """Fetch the image, if its registry is one of the setting `registries`; return its manifest's sha256, to be pinned."""
        return self._images.pull(reference)
