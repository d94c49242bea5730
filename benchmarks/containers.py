"""Containers: one after the other, and many at once, against the docker command."""

from __future__ import annotations

import itertools
import json
import time
from concurrent.futures import ThreadPoolExecutor

from benchmarks.bed import Bed, run
from benchmarks.pairs import Row, compare_rates, compare_times, in_pairs, seconds

PAIRS = 15
BATCH = 50
CLIENTS = 8
BATCHES = 3


class Containers:
    """Makes the same container by us and by docker."""

    def __init__(self, bed: Bed) -> None:
        self._bed = bed
        self._numbers = itertools.count()
        self._client = bed.client()
        self._image = self._daemon_image()

    def rows(self) -> list[Row]:
        """Every measurement of containers."""
        command, docker = in_pairs(self._add_by_command, self._docker_run, PAIRS)
        rest, docker_again = in_pairs(self._add_by_rest, self._docker_run, PAIRS)
        removed, docker_removed = in_pairs(self._stop_and_remove, self._docker_stop_and_remove, PAIRS)
        ended, docker_ended = in_pairs(self._stop_and_remove_by_command, self._docker_stop_and_remove, PAIRS)
        rates, docker_rates = in_pairs(self._batch, self._docker_batch, BATCHES)
        return [
            compare_times("container: POST → running, `docker run -d`", rest, docker_again, 1.3),
            compare_times("the same by `hyper add`, a process of its own", command, docker),
            compare_times("container: PUT stopped + DELETE, `docker stop` + `docker rm`", removed, docker_removed, 1.2),
            compare_times("the same by `hyper stop` + `hyper rm`, two processes", ended, docker_ended),
            compare_rates(f"{BATCH} containers by {CLIENTS} clients", rates, docker_rates, 0.8),
        ]

    def _daemon_image(self) -> str:
        """Docker's own name of the image that our containers are made from."""
        machine = self._by_rest()
        name = f"garbi-{self._bed.cluster}-{machine}"
        image = json.loads(run(["docker", "inspect", name]))[0]["Image"]
        self._client.machines.remove(machine)
        return str(image)

    def _name(self) -> str:
        return f"bench-{self._bed.port}-{next(self._numbers)}"

    def _by_rest(self) -> str:
        machine = self._client.machines.add({"image": "tiny-docker", "id": self._name(), "mem": 64})
        if machine["state"] != "running":
            raise RuntimeError(f"not running: {machine}")
        return str(machine["id"])

    def _by_command(self) -> str:
        return self._bed.hyper("add", "tiny-docker", "-i", self._name(), "-m", "64").strip()

    def _by_docker(self) -> str:
        name = self._name()
        run(["docker", "run", "-d", "--name", name, "--memory", "64m", "--cpus", "1", self._image])
        return name

    def _add_by_rest(self) -> float:
        names: list[str] = []
        taken = seconds(lambda: names.append(self._by_rest()))
        self._client.machines.remove(names[0])
        return taken

    def _add_by_command(self) -> float:
        names: list[str] = []
        taken = seconds(lambda: names.append(self._by_command()))
        self._client.machines.remove(names[0])
        return taken

    def _docker_run(self) -> float:
        names: list[str] = []
        taken = seconds(lambda: names.append(self._by_docker()))
        run(["docker", "rm", "-f", names[0]])
        return taken

    def _stop_and_remove(self) -> float:
        name = self._by_rest()
        machines = self._client.machines
        return seconds(lambda: (machines.wish(name, "stopped"), machines.remove(name)))

    def _stop_and_remove_by_command(self) -> float:
        name = self._by_rest()
        return seconds(lambda: (self._bed.hyper("stop", name), self._bed.hyper("rm", name)))

    def _docker_stop_and_remove(self) -> float:
        name = self._by_docker()
        return seconds(lambda: (run(["docker", "stop", name]), run(["docker", "rm", name])))

    def _batch(self) -> float:
        clients = [self._bed.client() for _ in range(CLIENTS)]
        names = [self._name() for _ in range(BATCH)]

        def add(number: int) -> None:
            spec = {"image": "tiny-docker", "id": names[number], "mem": 64}
            if clients[number % CLIENTS].machines.add(spec)["state"] != "running":
                raise RuntimeError("a container does not run")

        rate = _rate(add)
        with ThreadPoolExecutor(CLIENTS) as pool:
            list(pool.map(self._client.machines.remove, names))
        return rate

    def _docker_batch(self) -> float:
        names: list[str] = []
        rate = _rate(lambda _number: names.append(self._by_docker()))
        run(["docker", "rm", "-f", *names])
        return rate


def _rate(add: object) -> float:
    begin = time.perf_counter()
    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(add, range(BATCH)))  # type: ignore[arg-type]
    return BATCH / (time.perf_counter() - begin)
