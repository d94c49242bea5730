"""What /metrics tells of a cloud beside its requests: nodes, machines, what is reserved, what is under way."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterable, Iterator, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from garbi import __version__
from garbi.iaas.controller import Controller
from garbi.iaas.model.node import Node, NodeState
from garbi.iaas.model.operation import OperationKind, OperationState

MIB = 2**20
AMOUNTS = (("mem", "memory_bytes", MIB), ("cpus", "cpus", 1), ("disk", "disk_bytes", MIB))


class CloudMetrics(Collector):
    """The nodes, machines and operations of a controller, counted when somebody asks."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller

    def collect(self) -> Iterator[Metric]:
        nodes = self._controller.nodes.list()
        yield from _nodes(nodes)
        machines = self._controller.machines.list()
        tally = Tally((one.type, one.state.value, one.node or "") for one in machines)
        yield _gauge("machines", "Machines", ("type", "state", "node"), tally.items())
        unsettled = GaugeMetricFamily("garbi_iaas_unsettled_machines", "Machines that are not yet what was wished")
        unsettled.add_metric((), sum(not one.settled for one in machines))
        yield unsettled
        running = self._controller.operations.list({"state": OperationState.RUNNING.value})
        kinds = Tally({(kind.value,): 0 for kind in OperationKind})
        kinds.update((one.kind.value,) for one in running)
        yield _gauge("running_operations", "Operations under way", ("kind",), kinds.items())
        yield from _leadership(self._controller)
        yield InfoMetricFamily("garbi_iaas_build", "Which Garbi this is", {"version": __version__})


def _leadership(controller: Controller) -> Iterator[Metric]:
    leads = GaugeMetricFamily("garbi_iaas_leads", "1 where this controller leads, 0 where it follows another")
    leads.add_metric((), controller.leadership.leads)
    yield leads
    term = GaugeMetricFamily("garbi_iaas_term", "How often a controller of this cloud began to lead")
    term.add_metric((), controller.leadership.present()[0])
    yield term


def _nodes(nodes: Sequence[Node]) -> Iterator[Metric]:
    states = Tally({(state.value,): 0 for state in NodeState})
    states.update((node.state.value,) for node in nodes)
    yield _gauge("nodes", "Nodes", ("state",), states.items())
    for field, name, unit in AMOUNTS:
        reserved = {(node.name,): getattr(node.reserved, field) * unit for node in nodes}
        yield _gauge(f"node_reserved_{name}", "What machines have reserved of a node", ("node",), reserved.items())
        limit = {(node.name,): getattr(node.limit, field) * unit for node in nodes}
        yield _gauge(f"node_limit_{name}", "What machines may reserve of a node", ("node",), limit.items())


def _gauge(
    name: str, documentation: str, labels: Sequence[str], values: Iterable[tuple[tuple[str, ...], int]]
) -> Metric:
    family = GaugeMetricFamily(f"garbi_iaas_{name}", documentation, labels=labels)
    for key, value in sorted(values):
        family.add_metric(key, value)
    return family


def new_registry(controller: Controller) -> CollectorRegistry:
    """A registry of this server's own, so that several controllers of one process do not mix."""
    registry = CollectorRegistry()
    registry.register(CloudMetrics(controller))
    return registry
