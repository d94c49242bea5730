"""/metrics for Prometheus: the machines of the host, the requests that were answered, which Garbi this is."""

from __future__ import annotations

import time
from collections import Counter as Tally
from collections.abc import Iterator
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from garbi import __version__
from garbi.base.errors import UnknownFilter
from garbi.hyper.agent import Agent
from garbi.hyper.rest.listing import takes
from garbi.hyper.rest.problems import documented

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
METHODS = frozenset({"GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"})

router = APIRouter(tags=["host"])


async def _registry_of(request: Request) -> CollectorRegistry:
    registry: CollectorRegistry = request.app.state.metrics
    return registry


RegistryOf = Annotated[CollectorRegistry, Depends(_registry_of)]


class RequestMetrics:
    """ASGI: count what was answered and how long it took, by method, path template and status."""

    def __init__(self, app: ASGIApp, registry: CollectorRegistry) -> None:
        self._app = app
        labels = ("method", "path", "status")
        self._count = Counter("garbi_hyper_http_requests", "Requests answered", labels, registry=registry)
        self._seconds = Histogram(
            "garbi_hyper_http_request_seconds",
            "Time to answer, waits included",
            labels[:2],
            buckets=BUCKETS,
            registry=registry,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.monotonic(), "none"

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
            await send(message)

        try:
            await self._app(scope, receive, watch)
        finally:
            method = scope["method"] if scope["method"] in METHODS else "other"
            path = getattr(scope.get("route"), "path", "none")
            self._count.labels(method, path, status).inc()
            self._seconds.labels(method, path).observe(time.monotonic() - began)


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


@router.get(
    "/metrics",
    dependencies=[Depends(takes())],
    response_class=Response,
    responses={
        200: {"description": "Prometheus text", "content": {"text/plain": {"schema": {"type": "string"}}}},
        **documented(UnknownFilter),
    },
)
def metrics(registry: RegistryOf) -> Response:
    """Figures for Prometheus."""
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)
