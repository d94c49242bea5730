"""What is killed comes back: machines by their restart policy, and the agent itself, whose machines never notice."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import signal
import statistics
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from http.client import HTTPException
from pathlib import Path

from benchmarks.bed import PATIENCE_S, Bed, free_port, run
from benchmarks.pairs import Row
from garbi.base.errors import GarbiError

CONTAINER_KILLS = 100
CONTAINER_P99_S = 2.0
VM_KILLS = 10
AGENT_KILLS = 200
ADOPTED_WITHIN_S = 5.0
RUNNING_CONTAINERS = 4
LOOK_S = 0.02
ASK_S = 0.3
"""How long an answer may take. A request that came while the machine had no network would wait a second for its next try."""

VIRSH = ("virsh", "-q", "-c", "qemu:///system")
DOCKER, LIBVIRT = "tiny-docker", "tiny"
RUNNING_GUESTS = Path("/run/libvirt/qemu")


def measure() -> list[Row]:
    """Every measurement of this group, on an agent of its own."""
    with Bed() as bed:
        bed.hyper("images", "build", "tiny")
        return [*MachineKills(bed).rows(), *AgentKills(bed).rows()]


class MachineKills:
    """Kills the main process of a machine, and waits for a page from its next run.

    Each machine is killed once: the first restart of a budget comes at once, the next ones after growing pauses.
    """

    def __init__(self, bed: Bed) -> None:
        self._bed = bed
        self._client = bed.client()
        self._numbers = itertools.count()

    def rows(self) -> list[Row]:
        """How long containers and virtual machines are away."""
        containers = [self._time_away(DOCKER) for _ in range(CONTAINER_KILLS)]
        guests = [self._time_away(LIBVIRT) for _ in range(VM_KILLS)]
        met = percentile(containers, 99) <= CONTAINER_P99_S
        title = f"{CONTAINER_KILLS} containers killed, each until it answers again"
        return [
            Row(title, spread(containers), "", None, f"p99 ≤ {CONTAINER_P99_S:g} s", met),
            Row(f"{VM_KILLS} virtual machines killed, each until it answers again", spread(guests), "", None, "", True),
        ]

    def _time_away(self, image: str) -> float:
        """Seconds from the kill of a machine until its page answers again."""
        name, port = f"killed-{next(self._numbers)}", free_port()
        spec = {"image": image, "id": name, "mem": 128, "ports": [{"node_port": port, "machine_port": 80}]}
        self._client.machines.add(spec, wait_s=PATIENCE_S)
        url = f"http://127.0.0.1:{port}/"
        await_true(lambda: answers(url), f"{name} answers")
        before = process_of(self._bed, name, image)
        begin = time.perf_counter()
        os.kill(before, signal.SIGKILL)
        await_true(lambda: is_gone(before), f"{name} is dead")
        await_true(lambda: answers(url), f"{name} answers again")
        away = time.perf_counter() - begin
        await_true(lambda: self._client.machines.get(name)["state"] == "running", f"{name} is known to run")
        restarts = self._client.machines.get(name)["restarts"]
        if restarts != 1 or process_of(self._bed, name, image) == before:
            raise RuntimeError(f"{name} was restarted {restarts} times, not once")
        self._client.machines.remove(name, wait_s=PATIENCE_S)
        return away


class AgentKills:
    """Kills the agent over and over beside running machines.

    Two machines, one of each type, are frozen and thawed by the daemon's own command while no agent runs: only an agent that has
    looked at its machines can know that. Adopted means: it says so, and that all others run, and that nothing is left to do.
    """

    def __init__(self, bed: Bed) -> None:
        self._bed = bed
        self._frozen = False
        self._mark = bed.cluster
        self._container, self._guest = "seen-container", "seen-vm"
        self._others = [f"kept-{number}" for number in range(RUNNING_CONTAINERS)]

    def rows(self) -> list[Row]:
        """How long it takes until all machines are adopted, and whether each kept its process."""
        with self._machines() as images:
            before = self._processes(images)
            times = [self._round() for _ in range(AGENT_KILLS)]
            kept = self._processes(images) == before
        met = kept and max(times) <= ADOPTED_WITHIN_S
        words = "every process kept" if kept else "**a machine lost its process**"
        title = f"{AGENT_KILLS} agent kills beside {len(images)} machines, each until all are adopted"
        return [Row(title, f"{spread(times)}, {words}", "", None, f"max ≤ {ADOPTED_WITHIN_S:g} s", met)]

    @contextlib.contextmanager
    def _machines(self) -> Iterator[dict[str, str]]:
        """The machines by their images, all running."""
        images = {self._guest: LIBVIRT, self._container: DOCKER, **dict.fromkeys(self._others, DOCKER)}
        client = self._bed.client()
        for name, image in images.items():
            client.machines.add({"image": image, "id": name, "mem": 128}, wait_s=PATIENCE_S)
        await_true(lambda: self._states() == dict.fromkeys(images, "running"), "all machines run")
        yield images
        for name in images:
            client.machines.remove(name, wait_s=PATIENCE_S)

    def _round(self) -> float:
        """Seconds from the start of an agent until it has adopted all."""
        self._bed.kill()
        self._toggle()
        begin = time.perf_counter()
        self._bed.serve_again()
        seen = "paused" if self._frozen else "running"
        wanted = dict.fromkeys(self._others, "running") | {self._container: seen, self._guest: seen}
        await_true(lambda: self._states() == wanted, f"all are adopted: {wanted}")
        return time.perf_counter() - begin

    def _toggle(self) -> None:
        container, guest = (f"garbi-{self._mark}-{name}" for name in (self._container, self._guest))
        run(["docker", "unpause" if self._frozen else "pause", container])
        run([*VIRSH, "resume" if self._frozen else "suspend", guest])
        self._frozen = not self._frozen

    def _states(self) -> dict[str, str]:
        """What the agent says of its machines; one that has something to do for a machine says `unsettled`."""
        try:
            machines = self._bed.client().machines.list()
        except (OSError, GarbiError):
            return {}
        return {each["id"]: each["state"] if each["settled"] else "unsettled" for each in machines}

    def _processes(self, images: dict[str, str]) -> dict[str, str]:
        """Of each machine, its main process and when that started."""
        pids = {name: process_of(self._bed, name, image) for name, image in images.items()}
        return {name: f"{pid} {started_at(pid)}" for name, pid in pids.items()}


def process_of(bed: Bed, name: str, image: str) -> int:
    """The main process of a running machine: QEMU, or the first of the container."""
    full_name = f"garbi-{bed.cluster}-{name}"
    if image == LIBVIRT:
        return int((RUNNING_GUESTS / f"{full_name}.pid").read_text(encoding="ascii"))
    return int(json.loads(run(["docker", "inspect", full_name]))[0]["State"]["Pid"])


def started_at(pid: int) -> str:
    """When a process started, in ticks since the host did: with it, a pid is one process and no other."""
    return _stat(pid)[19]


def is_gone(pid: int) -> bool:
    """Whether the process has ended; nobody may have asked for its exit code yet."""
    try:
        return _stat(pid)[0] in ("Z", "X")
    except (OSError, IndexError):
        return True


def answers(url: str) -> bool:
    """Whether a page is there."""
    try:
        with urllib.request.urlopen(url, timeout=ASK_S) as answer:
            return bool(answer.read())
    except (OSError, HTTPException):
        return False


def await_true(check: Callable[[], bool], what: str) -> None:
    """Wait until `check` is true; raises RuntimeError saying what was waited for in vain."""
    deadline = time.monotonic() + PATIENCE_S
    while not check():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what}: not within {PATIENCE_S:g} s")
        time.sleep(LOOK_S)


def percentile(values: Sequence[float], percent: int) -> float:
    """The smallest of the values that so many percent of them do not pass."""
    return sorted(values)[math.ceil(len(values) * percent / 100) - 1]


def spread(values: Sequence[float]) -> str:
    """Median, p99 and the longest, in milliseconds."""
    middle, late, last = (each * 1000 for each in (statistics.median(values), percentile(values, 99), max(values)))
    return f"median {middle:.0f} ms, p99 {late:.0f} ms, max {last:.0f} ms"


def _stat(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
