"""/hyper/events: every change of a machine, as server-sent events.

A stream keeps no queue: the feed only wakes it, and it reads on from the number that it sent last. So a slow client
loses nothing and costs nothing; one that takes no byte for SEND_LIMIT_S seconds is dropped, and resumes by Last-Event-ID.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from typing import Annotated

import anyio
from anyio import to_thread
from fastapi import APIRouter, Header, Request, Response
from starlette.types import Receive, Scope, Send

from garbi.base.clock import to_wire
from garbi.base.errors import Busy, InvalidField, UnknownFilter
from garbi.hyper.model.event import Event
from garbi.hyper.rest.state import MAX_STREAMS, Server, ServerState
from garbi.hyper_api import schemas
from garbi.web.listing import check_query, parameters
from garbi.web.problems import documented

FILTERS = ("machine_id", "kind", "state", "wish")
PAGE = 200
SEND_LIMIT_S = 20.0

router = APIRouter(tags=["events"])


@router.get(
    "/hyper/events",
    response_class=Response,
    responses={
        200: {"description": "a stream without end", "content": {"text/event-stream": {"schema": {"type": "string"}}}},
        **documented(UnknownFilter, InvalidField, Busy),
    },
    openapi_extra=parameters(FILTERS, paged=False),
)
async def stream_events(
    request: Request,
    server: Server,
    last_event_id: Annotated[str | None, Header(description="resume after the event of this number")] = None,
) -> Response:
    """Stream events from now on, or from the one after Last-Event-ID."""
    filters = check_query(request, FILTERS)
    resume_after = None if last_event_id is None else _read_number(last_event_id)
    if len(server.streams) >= MAX_STREAMS:
        raise Busy(f"{MAX_STREAMS} event streams are open already")
    return EventStream(server, filters, resume_after)


def _read_number(text: str) -> int:
    if not re.match(r"[0-9]{1,18}\Z", text):
        raise InvalidField("Last-Event-ID", "Last-Event-ID takes the number of an event", allowed="a whole number")
    return int(text)


class EventStream(Response):
    """An endless response."""

    media_type = "text/event-stream"

    def __init__(self, server: ServerState, filters: dict[str, str], resume_after: int | None) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._server = server
        self._feed = server.agent.events
        self._filters = filters
        self._resume_after = resume_after

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        wake, loop = asyncio.Event(), asyncio.get_running_loop()

        def wake_up(_event: Event) -> None:
            with suppress(RuntimeError):  # the server has ended meanwhile
                loop.call_soon_threadsafe(wake.set)

        unsubscribe = self._feed.subscribe(wake_up)
        self._server.streams.add(wake)
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(_cancel_when_gone, receive, group.cancel_scope)
                with suppress(TimeoutError):
                    await self._send_on(send, wake)
                group.cancel_scope.cancel()
        finally:
            unsubscribe()
            self._server.streams.discard(wake)

    async def _send_on(self, send: Send, wake: asyncio.Event) -> None:
        newest = await to_thread.run_sync(self._feed.last_seq)
        seq = newest if self._resume_after is None else min(self._resume_after, newest)
        with anyio.fail_after(SEND_LIMIT_S):
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await _send_text(send, f": events after {seq}\n\n")
        while not self._server.closing:
            wake.clear()
            page = await to_thread.run_sync(self._feed.since, seq, PAGE)
            text = "".join(_format(event) for event in page if self._matches(event))
            if text:
                await _send_text(send, text)
            if page:
                seq = page[-1].seq
                continue
            with anyio.move_on_after(self._server.keep_alive_s) as limit:
                await wake.wait()
            if limit.cancelled_caught:
                await _send_text(send, ": still here\n\n")
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _matches(self, event: Event) -> bool:
        return all(str(getattr(event, name)) == value for name, value in self._filters.items())


async def _cancel_when_gone(receive: Receive, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


async def _send_text(send: Send, text: str) -> None:
    with anyio.fail_after(SEND_LIMIT_S):
        await send({"type": "http.response.body", "body": text.encode(), "more_body": True})


def _format(event: Event) -> str:
    return f"id: {event.seq}\nevent: {event.kind}\ndata: {describe(event).model_dump_json()}\n\n"


def describe(event: Event) -> schemas.Event:
    """An event as it travels."""
    return schemas.Event(
        seq=event.seq,
        at=to_wire(event.at),
        machine_id=event.machine_id,
        kind=event.kind.value,
        state=event.state.value,
        wish=event.wish.value,
        reason=event.reason,
    )
