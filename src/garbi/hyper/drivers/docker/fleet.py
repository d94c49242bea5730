"""Our containers at one engine: found by their id there, or by name and marks where it is not noted; looked at, and acted on so
that doing it twice does no harm."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from docker.api.client import APIClient

from garbi.base.errors import Conflict, DriverFailed, NotFound
from garbi.base.failpoints import reach
from garbi.hyper.drivers.docker.containers import (
    KILLED,
    MACHINE_LABEL,
    Marks,
    exit_code_listed,
    observe_inspected,
    observe_listed,
    ran_out_of_memory,
)
from garbi.hyper.drivers.docker.engine import Engine
from garbi.hyper.drivers.docker.notes import Notes
from garbi.hyper.drivers.docker.survey import is_inherited
from garbi.hyper.drivers.protocol import Condition, Observation

Inspected = dict[str, Any]


class Fleet:
    """The containers of one cluster. Whatever is not marked as ours is as if it did not exist."""

    def __init__(self, engine: Engine, marks: Marks, notes: Notes) -> None:
        self._engine = engine
        self._marks = marks
        self._notes = notes

    def find(self, machine_id: str) -> Inspected | None:
        """All that the engine knows of the machine; None when there is no such machine of ours.

        What is noted counts, whatever name it has by now; where nothing is, name and labels do, and it is noted then.
        """
        noted = self._notes.of(machine_id)
        found = self._inspect(noted or self._marks.container(machine_id))
        if found is None:
            return None
        name, labels = found["Name"], found["Config"].get("Labels") or {}
        if noted is not None:
            return found if self._marks.bears(machine_id, labels) and not self._marks.is_kept(name) else None
        if self._marks.machine_of(name, labels) != machine_id or self._is_copy(labels, found["Image"]):
            return None
        self._notes.adopt(machine_id, found["Id"])
        return found

    def find_of_name(self, machine_id: str) -> Inspected | None:
        """The container that has the name of the machine, whoever made it."""
        return self._inspect(self._marks.container(machine_id))

    def _inspect(self, name: str) -> Inspected | None:
        try:
            with self._engine.talk() as client:
                found: Inspected = client.inspect_container(name)
        except NotFound:
            return None
        return found

    def _is_copy(self, labels: Mapping[str, str], image: str) -> bool:
        """Whether the labels are those of the image that a container was made from."""
        try:
            with self._engine.talk() as client:
                described = client.inspect_image(image)  # type: ignore[no-untyped-call]
        except NotFound:
            return False
        return is_inherited(labels, described["Config"].get("Labels") or {})

    def get(self, machine_id: str) -> Inspected:
        """All that the engine knows of the machine; raises NotFound."""
        found = self.find(machine_id)
        if found is None:
            raise NotFound(f"no container of machine {machine_id}", id=machine_id)
        return found

    def create(self, machine_id: str, config: dict[str, Any]) -> None:
        """Make the container of a machine, and note which it is; raises NotFound when its image is not there, Conflict when its
        name is taken, NoSpace."""
        with self._engine.talk() as client:
            made = client.create_container_from_config(config, self._marks.container(machine_id))  # type: ignore[no-untyped-call]
        reach("docker.add.unnoted")
        self._notes.write(machine_id, str(made["Id"]))

    def observe(self, machine_id: str) -> Observation | None:
        found = self.find(machine_id)
        return None if found is None else observe_inspected(machine_id, found)

    def observe_one(self, machine_id: str) -> list[Observation]:
        """Look at one, if it is there."""
        seen = self.observe(machine_id)
        return [] if seen is None else [seen]

    def observe_all(self) -> list[Observation]:
        """Look at all in one call, and once more at each that was killed, for only there the list leaves the cause open."""
        with self._engine.talk() as client:
            listed: list[dict[str, Any]] = client.containers(all=True, filters=self._marks.filters)
        noted = self._notes.all()
        machines = {container_id: machine_id for machine_id, container_id in noted.items()}
        ours = ((self._machine_of(line, machines, noted), line) for line in listed)
        return [self._observe_listed(machine_id, line) for machine_id, line in ours if machine_id is not None]

    def act(
        self,
        verb: str,
        found: Inspected,
        action: Callable[[APIClient], object],
        reached: Callable[[Condition | None], bool],
    ) -> None:
        """Do one thing to the container. A refusal counts for nothing when what was wanted is so, whoever did it first."""
        reach(f"docker.{verb}.act")
        try:
            with self._engine.talk() as client:
                action(client)
        except (Conflict, DriverFailed, NotFound):
            now = self.observe(found["Config"]["Labels"][MACHINE_LABEL])
            if not reached(None if now is None else now.condition):
                raise
        reach(f"docker.{verb}.acted")

    def _machine_of(self, line: dict[str, Any], machines: Mapping[str, str], noted: Mapping[str, str]) -> str | None:
        """The machine that a container is: the one of which it is noted, or one of which nothing is that has its name."""
        labels, names = line.get("Labels") or {}, line.get("Names") or []
        known = machines.get(str(line["Id"]))
        if known is not None:
            kept = any(self._marks.is_kept(name) for name in names)
            return known if self._marks.bears(known, labels) and not kept else None
        named = next(filter(None, (self._marks.machine_of(name, labels) for name in names)), None)
        if named is None or named in noted or self._is_copy(labels, str(line.get("ImageID"))):
            return None
        self._notes.adopt(named, str(line["Id"]))
        return named

    def _observe_listed(self, machine_id: str, line: dict[str, Any]) -> Observation:
        killed = exit_code_listed(line) == KILLED
        found = self.find(machine_id) if killed else None
        return observe_listed(machine_id, line, found is not None and ran_out_of_memory(found))
