"""Who sees what truly runs: machines by the processes of this kernel, whatever agents and controllers believe."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

PERIOD_S = 0.1
THAW_S = 5.0
"""How long a host that was frozen as a whole may take, on a busy test machine, until its watchdog has had the processor."""


class Sightings:
    """Looks every tenth of a second at the main processes of containers inside hosts, and remembers what ran twice.

    `hosts` gives the name of a host by the id of its container. A frozen host runs nothing.
    """

    def __init__(self, hosts: Mapping[str, str]) -> None:
        self._hosts = hosts
        self._outside: set[int] = set()
        self._frozen: set[str] = set()
        self._thawed: dict[str, float] = {}
        self._lock = threading.Lock()
        self._ending = threading.Event()
        self._twice: dict[str, str] = {}
        self._before: set[str] = set()
        self._thread = threading.Thread(target=self._look_forever, name="sightings", daemon=True)
        self._thread.start()

    def note_frozen(self, host: str) -> None:
        """A host was frozen."""
        with self._lock:
            self._frozen.add(host)

    def note_thawed(self, host: str) -> None:
        """A host goes on, or was switched off."""
        with self._lock:
            self._frozen.discard(host)
            self._thawed[host] = time.monotonic()

    def close(self) -> dict[str, str]:
        """Look no more; the machines that ran on two hosts at once, and where."""
        self._ending.set()
        self._thread.join()
        return self.twice()

    def twice(self) -> dict[str, str]:
        """The machines that were seen running on two hosts at once until now, and where."""
        return dict(self._twice)

    def running(self) -> dict[str, list[tuple[str, int]]]:
        """The hosts, with the process, on which each machine runs now."""
        found: dict[str, list[tuple[str, int]]] = {}
        pids = {int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()}
        self._outside &= pids
        for pid in sorted(pids - self._outside):
            with suppress(OSError, ValueError, StopIteration):
                host, machine = self._machine_of(pid)
                if machine:
                    found.setdefault(machine, []).append((host, pid))
        return found

    def _look_forever(self) -> None:
        while not self._ending.wait(PERIOD_S):
            doubles = {}
            with self._lock:
                calm = time.monotonic() - THAW_S
                excused = self._frozen | {host for host, at in self._thawed.items() if at > calm}
                for machine, places in self.running().items():
                    where = {host for host, _pid in places} - excused
                    if len(where) > 1:
                        doubles[machine] = " and ".join(sorted(where))
            for machine in doubles.keys() & self._before:  # seen by two looks: not one that was just ending
                self._twice.setdefault(machine, doubles[machine])
            self._before = set(doubles)

    def _machine_of(self, pid: int) -> tuple[str, str]:
        """Host and machine of a process; nothing where it is not the first of a container inside a host."""
        place = Path(f"/proc/{pid}")
        lines = (place / "status").read_text(encoding="ascii", errors="replace").splitlines()
        numbers = next(line for line in lines if line.startswith("NSpid:")).split()[1:]
        if len(numbers) < 3:
            self._outside.add(pid)
            return "", ""
        if numbers[-1] != "1" or b"runc" in (place / "cmdline").read_bytes():  # the container is still being made
            return "", ""
        groups = (place / "cgroup").read_text(encoding="ascii", errors="replace")
        host = next(name for container, name in self._hosts.items() if container in groups)
        return host, (place / "root/etc/hostname").read_text().strip()
