"""The ability to keep the disk of a container: the container itself stays, stopped, under a name that is no machine's.

A copy by `docker commit` would leave out its volumes, and need as much room again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from garbi.base.errors import Conflict, DriverFailed, NotFound
from garbi.base.failpoints import reach
from garbi.hyper.drivers.docker.containers import CLUSTER_LABEL, MACHINE_LABEL, Marks, observe_inspected
from garbi.hyper.drivers.docker.engine import Engine
from garbi.hyper.drivers.docker.fleet import Fleet, Inspected
from garbi.hyper.drivers.docker.notes import Notes
from garbi.hyper.drivers.protocol import Condition, KeptDisk


class ContainerKeeper:
    """DiskKeeper for containers: they are renamed, and removed when they are dropped."""

    _engine: Engine
    _fleet: Fleet
    _marks: Marks
    _notes: Notes

    def keep_disk(self, machine_id: str, name: str) -> KeptDisk | None:
        found, kept = self._fleet.find(machine_id), self._find_kept(name)
        condition = None if found is None else observe_inspected(machine_id, found).condition
        if found is None or condition is Condition.PARTIAL:  # half removed already
            return self._described(name) if kept is not None and _machine_of(kept) == machine_id else None
        if condition is not Condition.STOPPED:
            raise Conflict(f"machine {machine_id} runs, its disk cannot be kept")
        if kept is not None:
            raise Conflict(f"another disk is kept as {name} already")
        reach("docker.keep_disk.rename")
        try:
            with self._engine.talk() as client:
                client.rename(found["Id"], self._marks.kept(name))
        except (Conflict, DriverFailed, NotFound):  # somebody was quicker, or has that name
            if self._find_kept(name) is None:
                raise
        reach("docker.keep_disk.renamed")
        self._notes.forget(machine_id)
        return self._described(name)

    def kept_disks(self) -> Mapping[str, KeptDisk]:
        return self._listed(f"^/?{self._marks.kept('')}")

    def drop_kept(self, name: str) -> None:
        kept = self._find_kept(name)
        if kept is None:
            return
        reach("docker.drop_kept.remove")
        try:
            with self._engine.talk() as client:
                client.remove_container(kept["Id"], v=True, force=True)
        except NotFound:
            pass
        reach("docker.drop_kept.removed")

    def _find_kept(self, name: str) -> Inspected | None:
        """All that the engine knows of the kept container; None when there is no such one of ours."""
        try:
            with self._engine.talk() as client:
                kept: Inspected = client.inspect_container(self._marks.kept(name))
        except NotFound:
            return None
        ours = (kept["Config"].get("Labels") or {}).get(CLUSTER_LABEL) == self._marks.cluster_id
        return kept if ours and kept["Name"].removeprefix("/") == self._marks.kept(name) else None

    def _described(self, name: str) -> KeptDisk | None:
        exactly = self._marks.kept(name).replace(".", "\\.")
        return self._listed(f"^/?{exactly}$").get(name)

    def _listed(self, pattern: str) -> dict[str, KeptDisk]:
        """The kept containers whose names match, with the bytes that each wrote; its volumes come on top."""
        filters = {**self._marks.filters, "name": [pattern]}
        with self._engine.talk() as client:
            lines: list[dict[str, Any]] = client.containers(all=True, size=True, filters=filters)
        places = [(str(each).removeprefix("/"), line) for line in lines for each in line.get("Names") or []]
        prefix = self._marks.kept("")
        return {
            place.removeprefix(prefix): KeptDisk(place, int(line.get("SizeRw") or 0))
            for place, line in places
            if place.startswith(prefix)
        }


def _machine_of(kept: Inspected) -> str:
    return str(kept["Config"]["Labels"].get(MACHINE_LABEL, ""))
