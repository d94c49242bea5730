"""The processes of containers, found without the engine: by the kernel's control groups, which are named by the container's id.

The driver notes the id when it makes a container. Where the notes are lost the engine's own record of a container that runs says
whose it is, and the kernel where that record lies. An engine that hangs does not keep its containers alive then.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from garbi.base.errors import DriverUnavailable
from garbi.hyper.drivers.docker.containers import Marks
from garbi.hyper.drivers.docker.notes import Notes

ENGINE_RECORDS = Path("/var/lib/docker/containers")
"""Where an engine that was set up in the usual way writes down its containers."""

_GROUP = re.compile(r"/docker[-/]([0-9a-f]{64})")
_RECORD = "config.v2.json"


class ContainerProcesses:
    """ProcessFinder for containers of the engine at `host`; in `notes` stands which container a machine is."""

    def __init__(self, host: str, marks: Marks, notes: Notes) -> None:
        self._local = host.startswith("unix://")
        self._marks = marks
        self.notes = notes
        self._found: dict[str, str] = {}

    def find(self, machine_id: str) -> list[int]:
        """What runs in the container of a machine; raises DriverUnavailable when that cannot be known."""
        self.check_local()
        container_id = self.notes.of(machine_id) or self._found.get(machine_id)
        if container_id is None:
            container_id = self._recorded(machine_id)
            if container_id is None:
                raise DriverUnavailable(f"nothing says which container machine {machine_id} is")
            self._found[machine_id] = container_id  # once it has ended, nothing that runs leads to it any more
        return _pids_in_group(container_id)

    def check_local(self) -> None:
        """Raise DriverUnavailable when the engine's processes are none of this host."""
        if not self._local:
            raise DriverUnavailable("the engine is on another host: its processes are not to be seen from here")

    def _recorded(self, machine_id: str) -> str | None:
        stopped = (_record(file) for file in ENGINE_RECORDS.glob(f"*/{_RECORD}"))
        for record in (*running_records().values(), *stopped):
            if record is not None and self._marks.machine_of(record["Name"], record["Config"]["Labels"]) == machine_id:
                return str(record["ID"])
        return None


def running_records() -> dict[str, dict[str, Any] | None]:
    """The engine's record of each container that runs on this host, by its id; None for one of which none can be read."""
    own = set(_GROUP.findall(_read(Path("/proc/self/cgroup"))))
    pids: dict[str, list[str]] = defaultdict(list)
    for name in filter(str.isdecimal, os.listdir("/proc")):
        # The first is the engine's; what it has inside itself is that of an engine in there, and none of this host's.
        inner = [each for each in _GROUP.findall(_read(Path(f"/proc/{name}/cgroup"))) if each not in own]
        if inner:
            pids[inner[0]].append(name)
    alive = {container_id: names for container_id, names in pids.items() if any(map(_lives, names))}
    return {container_id: _find_record(container_id, names) for container_id, names in alive.items()}


def _find_record(container_id: str, pids: list[str]) -> dict[str, Any] | None:
    places = [ENGINE_RECORDS / container_id, *_places(container_id, pids)]
    return next(filter(None, (_record(place / _RECORD) for place in places)), None)


def _places(container_id: str, pids: list[str]) -> Iterator[Path]:
    """Where the record may lie: the engine mounts files that are beside it into the container."""
    end = f"/containers/{container_id}/"
    mounts = [line.split()[2:5] for line in _read(Path("/proc/self/mountinfo")).splitlines()]
    for pid in pids:
        for line in _read(Path(f"/proc/{pid}/mountinfo")).splitlines():
            device, root = line.split()[2:4]
            if end not in root:
                continue
            directory = root[: root.index(end) + len(end) - 1]
            for each, below, point in mounts:
                if each == device and directory.startswith(below):
                    yield Path(point) / directory.removeprefix(below).lstrip("/")


def _record(file: Path) -> dict[str, Any] | None:
    """What an engine wrote down of a container, the labels of its image among it."""
    try:
        found = json.loads(file.read_bytes())
        labels = found["Config"]["Labels"] or {}
        image = _image_labels(file.parents[2], str(found["Image"]))
        return {
            "ID": str(found["ID"]), "Name": str(found["Name"]), "Config": {"Labels": labels}, "ImageLabels": image,
            "Paused": bool(found["State"].get("Paused")),
        }  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _image_labels(root: Path, image: str) -> dict[str, str]:
    """The labels of an image of the engine whose data are there."""
    for file in root.glob(f"image/*/imagedb/content/{image.replace(':', '/')}"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            return dict(json.loads(file.read_bytes())["config"]["Labels"] or {})
    return {}


def _pids_in_group(container_id: str) -> list[int]:
    """The processes, in whatever hierarchy of control groups, that have not ended."""
    sought, found = container_id.encode(), []
    for name in os.listdir("/proc"):
        if name.isdecimal():
            with contextlib.suppress(OSError):
                if sought in Path(f"/proc/{name}/cgroup").read_bytes() and _lives(name):
                    found.append(int(name))
    return found


def _lives(pid: str) -> bool:
    """A process that has ended stays visible until it is reaped."""
    fields = _read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    return bool(fields) and fields[0] not in ("Z", "X")


def _read(file: Path) -> str:
    try:
        return file.read_text(errors="replace")
    except OSError:
        return ""
