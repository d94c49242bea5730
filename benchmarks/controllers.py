"""A controller is killed over and over under load, and comes back: nothing moves, nothing fails, nothing is lost.

python -m benchmarks.controllers [restarts]
"""

from __future__ import annotations

import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from benchmarks.bed import PATIENCE_S
from benchmarks.cloud_bed import MANY, CloudBed
from benchmarks.pairs import Row
from benchmarks.repair import await_true, spread
from garbi.base.errors import GarbiError, NotFound
from garbi.hyper.drivers.fake import FakeWorld
from garbi.iaas_api.client import IaasClient

RESTARTS = 200
NODES = 3
STEADY = 30
CLIENTS = 4
LONGEST_LIFE_S = 2.0
"""A controller is killed after a time between nothing and so much, from when it answered."""

PAUSE_S = 0.05
FAKE = {**MANY, "GARBI_DRIVER_FAKE_PERSIST": "true", "GARBI_DRIVER_FAKE_DELAY_S": "0.05"}
SPEC: Mapping[str, Any] = {"image": "any", "type": "fake", "mem": 1}


@dataclass(slots=True)
class Tally:
    """What clients were told: the machines that are there, and how many came and went. Of a broken request nothing is known."""

    there: set[str] = field(default_factory=set)
    added: int = 0
    removed: int = 0
    refused: list[str] = field(default_factory=list)


def measure(restarts: int = RESTARTS) -> list[Row]:
    """Every measurement of this group, on a cloud of its own."""
    with CloudBed(NODES, FAKE) as bed:
        return Restarts(bed).rows(restarts)


class Restarts:
    """Kills the controller of a cloud; the agents run on."""

    def __init__(self, bed: CloudBed) -> None:
        self._bed = bed
        self._random = random.Random(7)  # the same times in every run

    def rows(self, restarts: int) -> list[Row]:
        """What has moved, failed, or got lost, and how long the controller was away."""
        steady = [f"steady-{number}" for number in range(STEADY)]
        client = self._bed.client()
        for name in steady:
            client.machines.add({**SPEC, "id": name}, wait_s=PATIENCE_S)
        with self._load() as tally:
            away = [self._restart() for _ in range(restarts)]
        self._rest()
        return [
            _row(f"{restarts} controllers killed under load, each until it answers again", spread(away), True),
            self._count("machines moved meanwhile", self._moves()),
            self._count(
                "machines that failed", [each["id"] for each in self._machines() if each["state"] != "running"]
            ),
            self._count(f"of {STEADY} steady machines, restarted", self._restarted(steady)),
            self._count("created and acknowledged, and not there", sorted(tally.there - self._ids())),
            self._count("running twice, or without a record", self._astray()),
            self._count("requests refused", tally.refused),
            self._count("audit findings", [str(each) for each in self._findings()]),
            _row("machines created, removed meanwhile", f"{tally.added}, {tally.removed}", tally.removed > 0),
        ]

    # The load

    @contextmanager
    def _load(self) -> Iterator[Tally]:
        """Clients that create and remove machines, for as long as the block runs."""
        tallies = [Tally() for _ in range(CLIENTS)]
        ended = threading.Event()
        total = Tally()
        clients = [
            threading.Thread(target=self._use, args=(number, tally, ended)) for number, tally in enumerate(tallies)
        ]
        for client in clients:
            client.start()
        try:
            yield total
        finally:
            ended.set()
            for client in clients:
                client.join()
        for tally in tallies:
            total.there |= tally.there
            total.added += tally.added
            total.removed += tally.removed
            total.refused += tally.refused

    def _use(self, client_number: int, tally: Tally, ended: threading.Event) -> None:
        """Create one machine after the other, and remove every second one."""
        client = self._bed.client()
        number = 0
        while not ended.is_set():
            name = f"load-{client_number}-{number}"
            number += 1
            spec = {**SPEC, "id": name}
            if not self._insist(lambda: client.machines.add(spec, idempotency_key=name), tally, ended):  # noqa: B023
                return
            tally.added += 1
            if number % 2:
                tally.there.add(name)
            elif self._insist(lambda: _remove(client, name), tally, ended):  # noqa: B023
                tally.removed += 1

    def _insist(self, action: Any, tally: Tally, ended: threading.Event) -> bool:
        """Ask until there is an answer; what is refused for good is noted. False when the load ended before."""
        while not ended.is_set():
            try:
                action()
            except GarbiError as error:
                if not error.temporary:
                    tally.refused.append(f"{error.code}: {error.detail}")
                    return True
                ended.wait(PAUSE_S)
            else:
                return True
        return False

    def _restart(self) -> float:
        """Kill the controller at any moment; seconds until the next one answers."""
        time.sleep(self._random.uniform(0, LONGEST_LIFE_S))
        self._bed.kill()
        begin = time.perf_counter()
        self._bed.serve_again()
        return time.perf_counter() - begin

    # What became of it

    def _rest(self) -> None:
        """Wait until nothing is under way."""
        await_true(lambda: all(each["settled"] for each in self._machines()), "machines come to rest")

    def _machines(self) -> list[dict[str, Any]]:
        return self._bed.client().machines.list()

    def _ids(self) -> set[str]:
        return {str(each["id"]) for each in self._machines()}

    def _moves(self) -> list[str]:
        moved = self._bed.client().events(after=0, follow=False, kind="moved")
        return [str(each["id"]) for each in moved]

    def _worlds(self) -> list[FakeWorld]:
        return [FakeWorld.at(agent.data_dir / "drivers" / "fake") for agent in self._bed.agents]

    def _restarted(self, names: list[str]) -> list[str]:
        """Those that were not switched on exactly once."""
        ons = {machine.id: machine.power_ons for world in self._worlds() for machine in world.machines()}
        return [name for name in names if ons.get(name) != 1]

    def _astray(self) -> list[str]:
        runs = Counter(machine.id for world in self._worlds() for machine in world.machines())
        known = self._ids()
        return sorted(name for name, times in runs.items() if times > 1 or name not in known)

    def _findings(self) -> list[dict[str, Any]]:
        found = self._bed.client().audit()
        for agent in self._bed.agents:
            found += agent.client().audit()
        return found

    def _count(self, what: str, found: list[str]) -> Row:
        if found:
            print(f"{what}: {', '.join(found[:5])}", file=sys.stderr)
        return Row(what, str(len(found)), "", None, "0", not found)


def _remove(client: IaasClient, name: str) -> None:
    try:
        client.machines.remove(name, wait_s=PATIENCE_S)
    except NotFound:
        return  # an earlier request, whose answer was lost, has removed it


def _row(what: str, ours: str, met: bool) -> Row:
    return Row(what, ours, "", None, "", met)


if __name__ == "__main__":
    from benchmarks.pairs import table

    found = measure(int(sys.argv[1]) if len(sys.argv) > 1 else RESTARTS)
    print(table(found))
    sys.exit(0 if all(row.met for row in found) else 1)
