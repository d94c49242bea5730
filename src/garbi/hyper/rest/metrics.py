"""What /metrics tells of a host beside its requests: its machines and what they reserve, its leases, what its audit found."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from garbi import __version__
from garbi.hyper.agent import Agent
from garbi.hyper.agent.audit import AUDITED
from garbi.hyper.converge import Step
from garbi.hyper.loops.restarts import BEGUN, REFUSED
from garbi.hyper.model.machine import Awaits, Machine
from garbi.web.audit_metrics import audit_metrics

MIB = 2**20
PREFIX = "garbi_hyper_"

Key = tuple[str, ...]
K = TypeVar("K", bound=Key)


class MachineMetrics(Collector):
    """The machines of an agent, counted when somebody asks."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    def collect(self) -> Iterator[Metric]:
        agent = self._agent
        machines = agent.machines.list()
        yield from _machines(machines)
        yield from _capacity(agent, machines)
        restarts = CounterMetricFamily(
            PREFIX + "machine_restarts", "Restarts of machines that ended by themselves", labels=("type",)
        )
        for kind in {one.type for one in machines} | {labels[0] for labels in agent.tally.read(BEGUN)}:
            restarts.add_metric((kind,), agent.tally.read(BEGUN).get((kind,), 0))
        yield restarts
        refused = {(one.type, step.value): 0 for one in machines for step in Step} | agent.tally.read(REFUSED)
        yield _counter("refused_steps", "Steps of machines that drivers refused", ("type", "step"), refused)
        yield from _leases(agent)
        yield from _kept(agent)
        yield from audit_metrics(PREFIX, agent.auditing, AUDITED)
        yield from _health(agent)
        yield InfoMetricFamily(PREFIX + "build", "Which Garbi this is", {"version": __version__})


def _machines(machines: Sequence[Machine]) -> Iterator[Metric]:
    count: Tally[Key] = Tally((one.type, one.state.value) for one in machines)
    yield _gauge("machines", "Machines", ("type", "state"), count)
    yield _single(
        "unsettled_machines", "Machines that are not yet what was wished", sum(not one.settled for one in machines)
    )
    unexplained = sum(one.unexplained for one in machines)
    yield _single(
        "unexplained_machines", "Machines that are not as they are wished, for good, and do not say why", unexplained
    )
    held = sum(one.awaits is Awaits.LEASE for one in machines)
    yield _single("held_machines", "Machines that may not run until the controller is heard again", held)


def _capacity(agent: Agent, machines: Sequence[Machine]) -> Iterator[Metric]:
    mem, cpus = Tally[Key](), Tally[Key]()
    for one in machines:
        mem[(one.type,)] += one.mem * MIB
        cpus[(one.type,)] += one.cpus
    yield _gauge("reserved_memory_bytes", "Memory that machines reserve", ("type",), mem)
    yield _gauge("reserved_cpus", "Processors that machines reserve", ("type",), cpus)
    yield _single("capacity_memory_bytes", "Memory that machines may reserve together", agent.capacity.mem * MIB)
    yield _single("capacity_cpus", "Processors that machines may reserve together", agent.capacity.cpus)


def _leases(agent: Agent) -> Iterator[Metric]:
    """Of each controller that orders machines here. Seconds on the clock of this host, which no clock's jump changes."""
    found = agent.leases.all()
    told = {(status.lease.controller,): status for status in found}
    label = ("controller",)
    yield _gauge(
        "lease_active",
        "1 while machines may run under the lease of this controller",
        label,
        {key: int(status.active) for key, status in told.items()},
    )
    yield _gauge(
        "lease_armed",
        "1 where the lease ends by itself when the controller cannot be heard",
        label,
        {key: int(status.lease.armed) for key, status in told.items()},
    )
    yield _gauge(
        "lease_expires_in_seconds",
        "Seconds until the lease ends unless it is renewed; below 0: what others say decides",
        label,
        {key: status.expires_in_s for key, status in told.items() if status.expires_in_s is not None},
    )
    yield _gauge(
        "lease_age_seconds",
        "Seconds since the lease was renewed last",
        label,
        {key: status.age_s for key, status in told.items() if status.age_s is not None},
    )
    yield _single("watchdog_alive", "1 while a watchdog works beside the agent", int(agent.leases.guarded()))


def _kept(agent: Agent) -> Iterator[Metric]:
    number, size = Tally[Key](), Tally[Key]()
    for disk in agent.kept.list():
        number[(disk.type,)] += 1
        size[(disk.type,)] += disk.size
    yield _gauge("kept_disks", "Disks of machines that were moved away or removed, and are kept", ("type",), number)
    yield _gauge("kept_disk_bytes", "Size of kept disks", ("type",), size)


def _health(agent: Agent) -> Iterator[Metric]:
    age = GaugeMetricFamily(PREFIX + "resync_age_seconds", "Seconds since all machines were last looked at")
    looked = agent.converger.looked_s_ago()
    if looked is not None:
        age.add_metric((), looked)
    yield age
    waiting = {(kind,): number for kind, number in agent.converger.waiting().items()}
    yield _gauge("waiting_machines", "Machines that wait for a worker", ("type",), waiting)
    yield _single(
        "storage_failed", "1 while the disk of the data directory cannot be written", int(bool(agent.unwritable()))
    )
    yield _single("database_bytes", "Size of the database, its journal included", agent.database_bytes())


def _gauge(name: str, documentation: str, labels: Sequence[str], values: Mapping[K, float]) -> Metric:
    family = GaugeMetricFamily(PREFIX + name, documentation, labels=labels)
    for key, value in sorted(values.items()):
        family.add_metric(key, value)
    return family


def _counter(name: str, documentation: str, labels: Sequence[str], values: Mapping[K, float]) -> Metric:
    family = CounterMetricFamily(PREFIX + name, documentation, labels=labels)
    for key, value in sorted(values.items()):
        family.add_metric(key, value)
    return family


def _single(name: str, documentation: str, value: float) -> Metric:
    return GaugeMetricFamily(PREFIX + name, documentation, value=value)


def new_registry(agent: Agent) -> CollectorRegistry:
    """A registry of this server's own, so that several agents of one process do not mix."""
    registry = CollectorRegistry()
    registry.register(MachineMetrics(agent))
    return registry
