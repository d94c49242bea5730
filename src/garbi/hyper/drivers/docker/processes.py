"""The processes of containers, found without the engine: by the kernel's control groups, which are named by the container's id.

The driver notes the id before it starts a container. An engine that hangs does not keep its containers alive then.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
from pathlib import Path

from garbi.base.errors import DriverFailed, DriverUnavailable, NoSpace
from garbi.hyper.drivers.docker.containers import Marks

ENGINE_RECORDS = Path("/var/lib/docker/containers")
"""Where an engine that was set up in the usual way writes down its containers: for those that were started before notes were."""


class ContainerProcesses:
    """ProcessFinder for containers of the engine at `host`; `directory` is where the ids are noted."""

    def __init__(self, host: str, marks: Marks, directory: Path) -> None:
        self._local = host.startswith("unix://")
        self._marks = marks
        self._directory = directory

    def note(self, machine_id: str, container_id: str) -> None:
        """Write down which container a machine is, before it is started; raises NoSpace, DriverFailed."""
        if self._noted(machine_id) == container_id:
            return
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            beside = self._directory / f".{machine_id}"
            beside.write_text(container_id)
            beside.replace(self._directory / machine_id)
        except OSError as error:
            kind = NoSpace if error.errno == errno.ENOSPC else DriverFailed
            raise kind(f"the container of machine {machine_id} cannot be noted: {error.strerror}") from error

    def forget(self, machine_id: str) -> None:
        """Forget a machine that is gone, or that is made anew."""
        with contextlib.suppress(OSError):
            (self._directory / machine_id).unlink()

    def find(self, machine_id: str) -> list[int]:
        """What runs in the container of a machine; raises DriverUnavailable when that cannot be known."""
        if not self._local:
            raise DriverUnavailable("the engine is on another host: its processes are not to be seen from here")
        container_id = self._noted(machine_id) or self._recorded(machine_id)
        if container_id is None:
            raise DriverUnavailable(f"nothing says which container machine {machine_id} is")
        return _pids_in_group(container_id)

    def destroy(self) -> None:
        """Delete all notes."""
        with contextlib.suppress(OSError):
            for each in self._directory.iterdir():
                each.unlink()
            self._directory.rmdir()

    def _noted(self, machine_id: str) -> str | None:
        try:
            return (self._directory / machine_id).read_text() or None
        except OSError:
            return None

    def _recorded(self, machine_id: str) -> str | None:
        for record in ENGINE_RECORDS.glob("*/config.v2.json"):
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
                found = json.loads(record.read_bytes())
                if self._marks.machine_of(found["Name"], found["Config"]["Labels"] or {}) == machine_id:
                    return str(found["ID"])
        return None


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
    return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
