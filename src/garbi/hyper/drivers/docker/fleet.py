"""Our containers at one engine: found by name and marks, looked at, and acted on so that doing it twice does no harm."""

from __future__ import annotations

from collections.abc import Callable
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
from garbi.hyper.drivers.protocol import Condition, Observation

Inspected = dict[str, Any]


class Fleet:
    """The containers of one cluster. Whatever is not marked as ours is as if it did not exist."""

    def __init__(self, engine: Engine, marks: Marks) -> None:
        self._engine = engine
        self._marks = marks

    def find(self, machine_id: str) -> Inspected | None:
        """All that the engine knows of the machine; None when there is no such machine of ours."""
        try:
            with self._engine.talk() as client:
                found: Inspected = client.inspect_container(self._marks.container(machine_id))
        except NotFound:
            return None
        return (
            found if self._marks.machine_of(found["Name"], found["Config"].get("Labels") or {}) == machine_id else None
        )

    def get(self, machine_id: str) -> Inspected:
        """All that the engine knows of the machine; raises NotFound."""
        found = self.find(machine_id)
        if found is None:
            raise NotFound(f"no container of machine {machine_id}", id=machine_id)
        return found

    def create(self, name: str, config: dict[str, Any]) -> None:
        """Make a container of that name; raises NotFound when its image is not there, Conflict when the name is taken."""
        with self._engine.talk() as client:
            client.create_container_from_config(config, name)  # type: ignore[no-untyped-call]

    def observe(self, machine_id: str) -> Observation | None:
        found = self.find(machine_id)
        return None if found is None else observe_inspected(machine_id, found)

    def observe_all(self) -> list[Observation]:
        """Look at all in one call, and once more at each that was killed, for only there the list leaves the cause open."""
        with self._engine.talk() as client:
            listed: list[dict[str, Any]] = client.containers(all=True, filters=self._marks.filters)
        observations = (self._observe_listed(line) for line in listed)
        return [each for each in observations if each is not None]

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

    def _observe_listed(self, line: dict[str, Any]) -> Observation | None:
        labels = line.get("Labels") or {}
        names = line.get("Names") or []
        machine_id = next(filter(None, (self._marks.machine_of(name, labels) for name in names)), None)
        if machine_id is None:
            return None
        killed = exit_code_listed(line) == KILLED
        found = self.find(machine_id) if killed else None
        return observe_listed(machine_id, line, found is not None and ran_out_of_memory(found))
