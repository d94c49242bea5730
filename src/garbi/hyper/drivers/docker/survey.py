"""The machines of all agents at one engine: by labels and names, and where the engine is silent by what runs on this host."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from garbi.base.errors import DriverUnavailable, NotFound
from garbi.hyper.drivers.docker.containers import (
    CLUSTER_LABEL,
    MACHINE_LABEL,
    MADE_LABEL,
    OWN_PREFIX,
    USER_LABEL_PREFIX,
    Marks,
    observe_listed,
)
from garbi.hyper.drivers.docker.engine import Engine
from garbi.hyper.drivers.docker.notes import Notes
from garbi.hyper.drivers.docker.processes import ContainerProcesses, running_records
from garbi.hyper.drivers.protocol import Condition, Identity, MarkedMachine

_OWN = (CLUSTER_LABEL, MACHINE_LABEL, MADE_LABEL)

Labels = Mapping[str, str]


class EngineSurvey:
    """Surveyor for containers. `notes` are those of this data directory, whoever the agent was that wrote them."""

    def __init__(self, engine: Engine, notes: Notes, processes: ContainerProcesses) -> None:
        self._engine = engine
        self._notes = notes
        self._processes = processes

    def of_engine(self) -> list[MarkedMachine]:
        """All that the engine has."""
        noted = set(self._notes.all().values())
        with self._engine.talk_shortly() as client:
            listed: list[dict[str, Any]] = client.containers(all=True, filters={"label": [CLUSTER_LABEL]})
            images: dict[str, Labels] = {}
            for image in {str(line.get("ImageID")) for line in listed}:
                try:
                    images[image] = client.inspect_image(image)["Config"].get("Labels") or {}  # type: ignore[no-untyped-call]
                except NotFound:
                    images[image] = {}
        found = []
        for line in listed:
            labels, names = line.get("Labels") or {}, [str(name) for name in line.get("Names") or []]
            # Its own name comes without the names of containers that are linked to it.
            name = next((each for each in names if each.count("/") == 1), "")
            of_image = images[str(line.get("ImageID"))]
            condition = observe_listed("", line, killed_by_memory=False).condition
            found.append(_marked(name, labels, of_image, condition, str(line["Id"]) in noted))
        return [each for each in found if each is not None]

    def of_processes(self) -> list[MarkedMachine]:
        """What runs."""
        self._processes.check_local()
        noted = set(self._notes.all().values())
        found = []
        for container_id, record in running_records().items():
            if record is None:
                raise DriverUnavailable(
                    f"container {container_id[:12]} runs on this host, and nothing says whose it is"
                )
            condition = Condition.PAUSED if record["Paused"] else Condition.RUNNING
            labels, image = record["Config"]["Labels"], record["ImageLabels"]
            found.append(_marked(record["Name"], labels, image, condition, container_id in noted))
        return [each for each in found if each is not None]


def _marked(name: str, labels: Labels, image: Labels, condition: Condition, noted: bool) -> MarkedMachine | None:
    """The container as a machine; None when its labels are not those of one."""
    cluster_id, machine_id = labels.get(CLUSTER_LABEL, ""), labels.get(MACHINE_LABEL, "")
    if not cluster_id or not machine_id or Marks(cluster_id).is_kept(name):
        return None
    marks = {key.removeprefix(OWN_PREFIX): text for key, text in labels.items() if _is_mark(key)}
    users = {
        key.removeprefix(USER_LABEL_PREFIX): text for key, text in labels.items() if key.startswith(USER_LABEL_PREFIX)
    }
    place = f"container {name.removeprefix('/')}"
    identity = _identity(name, labels, image, noted)
    return MarkedMachine(cluster_id, machine_id, place, condition, marks, users, identity)


def _identity(name: str, labels: Labels, image: Labels, noted: bool) -> Identity:
    if noted:
        return Identity.MADE
    if is_inherited(labels, image):
        return Identity.COPY
    made = Marks(labels[CLUSTER_LABEL]).machine_of(name, labels) is not None
    return Identity.MADE if made else Identity.UNSURE


def is_inherited(labels: Labels, image: Labels) -> bool:
    """Whether a container has its labels from its image; those of earlier versions have no text that is theirs alone."""
    telling = (MADE_LABEL,) if labels.get(MADE_LABEL) else (CLUSTER_LABEL, MACHINE_LABEL)
    return all(image.get(key) is not None and image.get(key) == labels.get(key) for key in telling)


def _is_mark(key: str) -> bool:
    return key.startswith(OWN_PREFIX) and not key.startswith(USER_LABEL_PREFIX) and key not in _OWN
