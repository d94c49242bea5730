"""A cloud of two nodes on this host: what the way through the controller costs, and what the controller bears."""

from __future__ import annotations

import itertools
import json
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from benchmarks.bed import run
from benchmarks.cloud_bed import CloudBed
from benchmarks.pairs import Row, compare_times, in_pairs, seconds

PAIRS = 15
LISTED = 1000
LIST_CLIENTS = 4
LIST_REQUESTS = 400
CREATES = 100
CREATE_CLIENTS = 16
COMMANDS = 31


class Cloud:
    """Measures through a controller. Both nodes are agents on this host, and share its Docker."""

    def __init__(self, bed: CloudBed, tiny_docker: Path) -> None:
        self._bed = bed
        self._client = bed.client()
        self._numbers = itertools.count()
        self._file = tiny_docker

    def rows(self) -> list[Row]:
        """Every measurement of a cloud."""
        idle = self._bed.resident_mib()
        self._add_image()
        rows = [self._second_start(), self._container()]
        rows += [self._creates("fake", {"image": "any", "type": "fake"}), self._creates("container", CONTAINER)]
        rows.append(self._command("`iaas vm ls` as a process", 0.3))
        rows += self._list_of_thousand()
        rows.append(_memory("controller: resident memory at idle, two nodes", idle, 100))
        rows.append(_memory(f"controller: the same after {LISTED} machines", self._bed.resident_mib(), None))
        return rows

    def _add_image(self) -> None:
        size = self._file.stat().st_size
        self._client.images.add("tiny-docker", "docker", [self._file.read_bytes()], size)

    def _second_start(self) -> Row:
        """The first start on a node brings the image there, the second one finds it."""
        machines = self._client.machines
        before = self._received()
        first = seconds(lambda: _running(machines.add({**CONTAINER, "id": "first", "node": "n1"})))
        between = self._received()
        second = seconds(lambda: _running(machines.add({**CONTAINER, "id": "second", "node": "n1"})))
        after = self._received()
        machines.remove("first"), machines.remove("second")
        met = between > before and after == between
        ours = f"{second * 1000:.0f} ms, {after - between} uploads"
        return Row(
            "second start of an image on a node, the first one",
            ours,
            f"{first * 1000:.0f} ms, {between - before} uploads",
            None,
            "no transfer",
            met,
        )

    def _received(self) -> int:
        """How many uploads the first node has answered."""
        agent = self._bed.agents[0]
        connection = HTTPConnection("127.0.0.1", agent.port, timeout=60)
        connection.request("GET", "/metrics", headers={"Authorization": f"Bearer {agent.token}"})
        lines = connection.getresponse().read().decode().splitlines()
        connection.close()
        uploads = [
            float(line.rpartition(" ")[2])
            for line in lines
            if line.startswith("garbi_hyper_http_requests_total{") and _is_upload(line)
        ]
        return int(sum(uploads))

    def _container(self) -> Row:
        image = self._daemon_image()
        ours, theirs = in_pairs(self._by_rest, lambda: _docker_run(image, self._name()), PAIRS)
        return compare_times("through iaas: container, POST → running, `docker run -d`", ours, theirs, 1.5)

    def _daemon_image(self) -> str:
        """Docker's own name of the image that our containers are made from."""
        made = _running(self._client.machines.add({**CONTAINER, "node": "n1"}))
        name = f"garbi-{self._bed.agents[0].cluster}-{made['id']}"
        image = json.loads(run(["docker", "inspect", name]))[0]["Image"]
        self._client.machines.remove(made["id"])
        return str(image)

    def _by_rest(self) -> float:
        made: list[dict[str, Any]] = []
        spec = {**CONTAINER, "id": self._name(), "node": "n1"}
        taken = seconds(lambda: made.append(_running(self._client.machines.add(spec))))
        self._client.machines.remove(made[0]["id"])
        return taken

    def _name(self) -> str:
        return f"bench-{self._bed.port}-{next(self._numbers)}"

    def _creates(self, what: str, spec: dict[str, Any]) -> Row:
        clients = [self._bed.client() for _ in range(CREATE_CLIENTS)]
        names = [self._name() for _ in range(CREATES)]

        def add(number: int) -> None:
            _running(clients[number % CREATE_CLIENTS].machines.add({**spec, "id": names[number]}, wait_s=120))

        with ThreadPoolExecutor(CREATE_CLIENTS) as pool:
            taken = seconds(lambda: list(pool.map(add, range(CREATES))))
            list(pool.map(self._client.machines.remove, names))
        title = f"{CREATES} {what} machines by {CREATE_CLIENTS} clients over 2 nodes, each until it runs"
        return Row(title, f"{CREATES / taken:.1f}/s", "", None, "", True)

    def _list_of_thousand(self) -> list[Row]:
        names = [self._name() for _ in range(LISTED)]
        clients = [self._bed.client() for _ in range(CREATE_CLIENTS)]

        def add(number: int) -> None:
            spec = {"image": "any", "type": "fake", "mem": 1, "id": names[number]}
            clients[number % CREATE_CLIENTS].machines.add(spec, wait_s=600)

        with ThreadPoolExecutor(CREATE_CLIENTS) as pool:
            list(pool.map(add, range(LISTED)))
        rows = [self._listing(""), self._listing("?limit=100")]
        rows.append(self._command(f"`iaas vm ls` of {LISTED} machines", None))
        with ThreadPoolExecutor(CREATE_CLIENTS) as pool:
            list(pool.map(self._client.machines.remove, names))
        return rows

    def _listing(self, query: str) -> Row:
        """`LIST_CLIENTS` clients ask one time after the other, on connections that they keep."""

        def ask(_client: int) -> list[float]:
            connection = HTTPConnection("127.0.0.1", self._bed.port, timeout=60)
            taken = [seconds(lambda: self._get(connection, query)) for _ in range(LIST_REQUESTS // LIST_CLIENTS)]
            connection.close()
            return taken

        begin = time.perf_counter()
        with ThreadPoolExecutor(LIST_CLIENTS) as pool:
            each = sorted(itertools.chain.from_iterable(pool.map(ask, range(LIST_CLIENTS))))
        rate = len(each) / (time.perf_counter() - begin)
        p99 = each[int(len(each) * 0.99)]
        ours = f"{rate:.0f}/s, median {statistics.median(each) * 1000:.0f} ms, p99 {p99 * 1000:.0f} ms"
        what = f"`GET /iaas/machines{query}` of {LISTED} machines, {LIST_CLIENTS} clients"
        return Row(what, ours, "", None, "", True)

    def _get(self, connection: HTTPConnection, query: str) -> None:
        connection.request("GET", f"/iaas/machines{query}", headers={"Authorization": f"Bearer {self._bed.token}"})
        answer = connection.getresponse()
        if answer.status != 200 or not answer.read():
            raise RuntimeError(f"answered {answer.status}")

    def _command(self, what: str, most_s: float | None) -> Row:
        each = [seconds(lambda: self._bed.iaas("vm", "ls")) for _ in range(COMMANDS)]
        median = statistics.median(each)
        target = "" if most_s is None else f"≤ {most_s * 1000:.0f} ms"
        return Row(what, f"{median * 1000:.0f} ms", "", None, target, most_s is None or median <= most_s)


CONTAINER = {"image": "tiny-docker", "mem": 64}


def _is_upload(line: str) -> bool:
    return 'path="/hyper/images/{name}' in line and ('method="PUT"' in line or 'method="PATCH"' in line)


def _running(machine: dict[str, Any]) -> dict[str, Any]:
    if machine["state"] != "running":
        raise RuntimeError(f"not running: {machine}")
    return machine


def _docker_run(image: str, name: str) -> float:
    taken = seconds(lambda: run(["docker", "run", "-d", "--name", name, "--memory", "64m", "--cpus", "1", image]))
    run(["docker", "rm", "-f", name])
    return taken


def _memory(what: str, mib: float, most: int | None) -> Row:
    return Row(what, f"{mib:.0f} MiB", "", None, "" if most is None else f"≤ {most} MiB", most is None or mib <= most)
