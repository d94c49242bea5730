"""How long the containers of a host are away when it is switched off: three real hosts, a controller with default settings.

python -m benchmarks.failover [rounds] [rounds without power]
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.cloud.hosts import Lab, packaged_image
from tests.cloud.lossy import PAGE, LossyCloud

from benchmarks.pairs import Row
from garbi.hyper.images.tiny import build_tiny

ROUNDS, ROUNDS_WITHOUT_POWER = 12, 3
CONTAINERS = 3
LIMIT_S = 300.0
LOOK_S = 0.05


class Failover:
    """Switches one host after the other off, and on again."""

    def __init__(self, cloud: LossyCloud) -> None:
        self._cloud = cloud
        self._names = list(cloud.hosts)

    def rows(self, rounds: int, rounds_without_power: int) -> list[Row]:
        """Both measurements: a proof by the power program, and by the lease alone."""
        proven = [taken for number in range(rounds) for taken in self._round(number, power=True)]
        waited = [taken for number in range(rounds_without_power) for taken in self._round(number, power=False)]
        how = f"host killed → its {CONTAINERS} containers answer elsewhere"
        return [
            _row(f"{how}, fenced by the power program", proven, 20),
            _row(f"{how}, only its lease can prove it", waited, 90),
        ]

    def _round(self, number: int, power: bool) -> list[float]:
        """Seconds from the end of a host until each of its containers answers on another one."""
        victim = self._names[number % len(self._names)]
        others = [name for name in self._names if name != victim]
        ports = {f"away-{number}-{place}": PAGE + place for place in range(CONTAINERS)}
        self._cloud.power = power
        self._cloud.all_ready()
        for name, port in ports.items():
            self._cloud.add(name, victim, "recreate", port)
            _seconds_until_answer(self._cloud, name, [victim], port, time.monotonic())
        self._cloud.hosts[victim].kill()
        began = time.monotonic()
        with ThreadPoolExecutor(len(ports)) as pool:
            taken = list(
                pool.map(
                    lambda each: _seconds_until_answer(self._cloud, each[0], others, each[1], began), ports.items()
                )
            )
        by = self._cloud.node(victim)["reason"]
        print(f"{victim}: {', '.join(f'{each:.1f} s' for each in taken)}; {by}", flush=True)
        self._cloud.hosts[victim].boot()
        self._cloud.wait_for_node(victim, "ready")
        for name in ports:
            self._cloud.client().machines.remove(name, wait_s=60)
        return taken


def _seconds_until_answer(cloud: LossyCloud, name: str, nodes: list[str], port: int, began: float) -> float:
    while not cloud.answers(name, nodes, port):
        if time.monotonic() - began > LIMIT_S:
            raise TimeoutError(f"{name} does not answer on any of {nodes}")
        time.sleep(LOOK_S)
    return time.monotonic() - began


def _row(what: str, taken: list[float], most_s: float) -> Row:
    each = sorted(taken)
    p99 = each[max(0, -(-len(each) * 99 // 100) - 1)] if each else 0.0
    median = statistics.median(each) if each else 0.0
    ours = f"median {median:.1f} s, p99 {p99:.1f} s ({len(each)} containers)"
    return Row(what, ours, "", None, f"p99 ≤ {most_s:g} s", bool(each) and p99 <= most_s)


@contextmanager
def lossy_cloud() -> Iterator[LossyCloud]:
    """A cloud of three hosts with default settings; everything is gone when the context ends."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="garbi-bench-", dir="/var/tmp")))
        lab = Lab(directory)
        stack.callback(lab.close)
        image = packaged_image()
        with ThreadPoolExecutor(3) as pool:
            hosts = list(pool.map(lambda _number: lab.add_host(image), range(3)))
        cloud = LossyCloud(lab, hosts, build_tiny(directory)[1], directory)
        stack.callback(cloud.close)
        yield cloud


def measure() -> list[Row]:
    """Hosts that are made for it, and taken away."""
    with lossy_cloud() as cloud:
        return Failover(cloud).rows(ROUNDS, ROUNDS_WITHOUT_POWER)
