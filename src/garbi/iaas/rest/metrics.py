"""What /metrics tells of a cloud beside its requests: nodes, machines, operations, repair, leadership, what the audit found."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TypeVar

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from garbi import __version__
from garbi.iaas.controller import Controller
from garbi.iaas.controller.audit import AUDITED
from garbi.iaas.controller.machines import REFUSALS
from garbi.iaas.fences.protocol import TRIED
from garbi.iaas.model.event import Event, Subject
from garbi.iaas.model.node import Node, NodeState
from garbi.iaas.model.operation import OperationKind, OperationState
from garbi.iaas.monitor.failover import Condition, too_many_dead
from garbi.web.audit_metrics import audit_metrics

MIB = 2**20
PREFIX = "garbi_iaas_"
AMOUNTS = (("mem", "memory_bytes", MIB), ("cpus", "cpus", 1), ("disk", "disk_bytes", MIB))
FENCES = ("ssh", "power", "lease")
OUTCOMES = ("proven", "failed")

Key = tuple[str, ...]
K = TypeVar("K", bound=Key)


class CloudMetrics(Collector):
    """What a controller knows, counted when somebody asks; what happens is counted as it does."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self._happened: Tally[Key] = Tally()
        controller.events.subscribe(self._count)

    def collect(self) -> Iterator[Metric]:
        controller = self._controller
        nodes = controller.nodes.list()
        yield from _nodes(nodes)
        yield from _machines(controller)
        yield from _operations(controller)
        yield from self._repair(nodes)
        refusals = controller.tally.read(REFUSALS)
        yield _counter("placement_refusals", "Machines that no node could take, by rule", ("filter",), refusals)
        yield from _leadership(controller)
        yield from audit_metrics(PREFIX, controller.auditing, AUDITED)
        yield InfoMetricFamily(PREFIX + "build", "Which Garbi this is", {"version": __version__})

    def _count(self, event: Event) -> None:
        if event.seq:
            self._happened[(event.subject.value, event.kind)] += 1

    def _repair(self, nodes: Sequence[Node]) -> Iterator[Metric]:
        tried = {(fence, outcome): 0 for fence in FENCES for outcome in OUTCOMES} | self._controller.tally.read(TRIED)
        yield _counter("fences_tried", "Fences that were tried on silent nodes", ("fence", "outcome"), tried)
        happened = self._happened.copy()
        for name, documentation, key in (
            ("failovers", "Plans for machines of a node that was proven dead", (Subject.NODE.value, "failover")),
            ("moved_machines", "Machines that were given another node", (Subject.MACHINE.value, "moved")),
        ):
            yield CounterMetricFamily(PREFIX + name, documentation, value=happened[key])
        yield _counter("events", "What happened, as the history has it", ("subject", "kind"), happened)
        stopped = too_many_dead(map(_condition, nodes)) is not None
        yield _single("mass_failure", "1 while so many nodes seem dead at once that nothing is moved", int(stopped))


def _condition(node: Node) -> Condition:
    heard_at = node.seen_at or node.created_at
    return Condition(node.name, node.state, _seconds_since(node.updated_at), _seconds_since(heard_at))


def _nodes(nodes: Sequence[Node]) -> Iterator[Metric]:
    states = Tally({(state.value,): 0 for state in NodeState})
    states.update((node.state.value,) for node in nodes)
    yield _gauge("nodes", "Nodes", ("state",), states)
    silence = {(node.name,): _seconds_since(node.seen_at) for node in nodes if node.seen_at is not None}
    yield _gauge("node_silence_seconds", "Seconds since a node was last heard", ("node",), silence)
    for field, name, unit in AMOUNTS:
        reserved = {(node.name,): getattr(node.reserved, field) * unit for node in nodes}
        yield _gauge(f"node_reserved_{name}", "What machines have reserved of a node", ("node",), reserved)
        limit = {(node.name,): getattr(node.limit, field) * unit for node in nodes}
        yield _gauge(f"node_limit_{name}", "What machines may reserve of a node", ("node",), limit)


def _machines(controller: Controller) -> Iterator[Metric]:
    machines = controller.machines.list()
    count = Tally((one.type, one.state.value, one.node or "") for one in machines)
    yield _gauge("machines", "Machines", ("type", "state", "node"), count)
    unsettled = sum(not one.settled for one in machines)
    yield _single("unsettled_machines", "Machines that are not yet what was wished", unsettled)
    unexplained = sum(one.unexplained for one in machines)
    yield _single(
        "unexplained_machines", "Machines that are not as they are wished, for good, and do not say why", unexplained
    )


def _operations(controller: Controller) -> Iterator[Metric]:
    counted = controller.operations.count()
    running = {(kind.value,): counted.get((kind.value, OperationState.RUNNING.value), 0) for kind in OperationKind}
    yield _gauge("running_operations", "Operations under way", ("kind",), running)
    ended = {
        (kind.value, state.value): counted.get((kind.value, state.value), 0)
        for kind in OperationKind
        for state in (OperationState.DONE, OperationState.FAILED)
    }
    yield _counter("finished_operations", "Operations that ended", ("kind", "state"), ended)


def _leadership(controller: Controller) -> Iterator[Metric]:
    yield _single(
        "leads", "1 where this controller leads, 0 where it follows another", int(controller.leadership.leads)
    )
    term = controller.leadership.present()[0]
    yield _single("term", "How often a controller of this cloud began to lead", term)


def _seconds_since(moment: datetime) -> float:
    return max((datetime.now(UTC) - moment).total_seconds(), 0.0)


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


def new_registry(controller: Controller) -> CollectorRegistry:
    """A registry of this server's own, so that several controllers of one process do not mix."""
    registry = CollectorRegistry()
    registry.register(CloudMetrics(controller))
    return registry
