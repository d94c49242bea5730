"""What /metrics tells of a host beside its requests: its machines, which Garbi this is."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from garbi import __version__
from garbi.hyper.agent import Agent


class MachineMetrics(Collector):
    """The machines of an agent, counted when somebody asks."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    def collect(self) -> Iterator[Metric]:
        machines = self._agent.machines.list()
        count = GaugeMetricFamily("garbi_hyper_machines", "Machines", labels=("type", "state"))
        for (kind, state), number in sorted(Tally((one.type, one.state.value) for one in machines).items()):
            count.add_metric((kind, state), number)
        yield count
        reserved = GaugeMetricFamily(
            "garbi_hyper_reserved_memory_bytes", "Memory that machines reserve", labels=("type",)
        )
        for kind in sorted({one.type for one in machines}):
            reserved.add_metric((kind,), sum(one.mem for one in machines if one.type == kind) * 2**20)
        yield reserved
        unsettled = GaugeMetricFamily("garbi_hyper_unsettled_machines", "Machines that are not yet what was wished")
        unsettled.add_metric((), sum(not one.settled for one in machines))
        yield unsettled
        yield InfoMetricFamily("garbi_hyper_build", "Which Garbi this is", {"version": __version__})


def new_registry(agent: Agent) -> CollectorRegistry:
    """A registry of this server's own, so that several agents of one process do not mix."""
    registry = CollectorRegistry()
    registry.register(MachineMetrics(agent))
    return registry
