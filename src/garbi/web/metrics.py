"""/metrics for Prometheus, from the registry of the server that is asked."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from garbi.base.errors import UnknownFilter
from garbi.web.listing import takes
from garbi.web.problems import documented

router = APIRouter(tags=["host"])


async def _registry_of(request: Request) -> CollectorRegistry:
    registry: CollectorRegistry = request.app.state.metrics
    return registry


RegistryOf = Annotated[CollectorRegistry, Depends(_registry_of)]


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
