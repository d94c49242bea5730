"""/hyper/events: every change of a machine, as server-sent events."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from garbi.base.errors import Busy, InvalidField, UnknownFilter
from garbi.hyper.model.event import Event
from garbi.hyper.rest.state import Server
from garbi.web.event_stream import STREAM_ANSWER, LastEventId, open_stream, stream_parameters
from garbi.web.problems import documented

FILTERS = ("machine_id", "kind", "state", "wish")

router = APIRouter(tags=["events"])


@router.get(
    "/hyper/events",
    response_class=Response,
    responses={200: STREAM_ANSWER, **documented(UnknownFilter, InvalidField, Busy)},
    openapi_extra=stream_parameters(FILTERS),
)
async def stream_events(request: Request, server: Server, last_event_id: LastEventId = None) -> Response:
    """Stream events from now on, from the one after Last-Event-ID, or from the `last` so many on."""
    return open_stream(request, server, server.agent.events, Event, FILTERS, last_event_id)
