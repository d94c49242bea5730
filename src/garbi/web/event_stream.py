"""Events of a service as server-sent events.

A stream keeps no queue: the feed only wakes it, and it reads on from the number that it sent last. So a slow client
loses nothing and costs nothing; one that takes no byte for SEND_LIMIT_S seconds is dropped, and resumes by Last-Event-ID.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any, Generic, Protocol, TypeVar

import anyio
from anyio import to_thread
from fastapi import Header, Request, Response
from starlette.types import Receive, Scope, Send

from garbi.base.documents import document_of
from garbi.base.errors import Busy, InvalidField
from garbi.web.listing import check_query, declare, parameters
from garbi.web.places import MAX_STREAMS, Places

PAGE = 200
SEND_LIMIT_S = 20.0
MAX_LAST = 1000
FARTHEST = 100_000
"""How many events are looked through, at most, for the last ones that somebody wants to see."""

STREAM_ANSWER: dict[str, Any] = {
    "description": "a stream without end",
    "content": {"text/event-stream": {"schema": {"type": "string"}}},
}

LastEventId = Annotated[str | None, Header(description="resume after the event of this number")]


class Numbered(Protocol):
    """An event: its number, and what kind it is of."""

    @property
    def seq(self) -> int: ...

    @property
    def kind(self) -> str: ...


E = TypeVar("E", bound=Numbered)


class Feed(Protocol[E]):
    """The events of a service, past and to come."""

    def since(self, seq: int, limit: int) -> list[E]:
        """At most `limit` events after the one numbered `seq`, the oldest first."""

    def last_seq(self) -> int:
        """The number of the newest event."""

    def subscribe(self, subscriber: Callable[[E], None]) -> Callable[[], None]:
        """Call `subscriber` with every further event; the function returned ends that."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which events: those whose fields equal `filters`, after the one numbered `after` (None: from now on).

    `last`: so many of the past come first, unless `after` is given. Unless `follow`, the stream ends where the past does.
    """

    filters: Mapping[str, str]
    after: int | None = None
    last: int = 0
    follow: bool = True


class EventStream(Response, Generic[E]):
    """A response without end, unless it is to have one, of the events that are wanted."""

    media_type = "text/event-stream"

    def __init__(
        self,
        places: Places,
        feed: Feed[E],
        kind: type[E],
        wanted: Wanted,
    ) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._places = places
        self._feed = feed
        self._kind = kind
        self._wanted = wanted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        wake, loop = asyncio.Event(), asyncio.get_running_loop()

        def wake_up(_event: E) -> None:
            with suppress(RuntimeError):  # the server has ended meanwhile
                loop.call_soon_threadsafe(wake.set)

        unsubscribe = self._feed.subscribe(wake_up)
        self._places.streams.add(wake)
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(_cancel_when_gone, receive, group.cancel_scope)
                with suppress(TimeoutError):
                    await self._send_on(send, wake)
                group.cancel_scope.cancel()
        finally:
            unsubscribe()
            self._places.streams.discard(wake)

    async def _send_on(self, send: Send, wake: asyncio.Event) -> None:
        seq = await to_thread.run_sync(self._begin)
        with anyio.fail_after(SEND_LIMIT_S):
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await _send_text(send, f": events after {seq}\n\n")
        while not self._places.closing:
            wake.clear()
            page = await to_thread.run_sync(self._feed.since, seq, PAGE)
            text = "".join(self._format(event) for event in page if self._matches(event))
            if text:
                await _send_text(send, text)
            if page:
                seq = page[-1].seq
                continue
            if not self._wanted.follow:
                break
            with anyio.move_on_after(self._places.keep_alive_s) as limit:
                await wake.wait()
            if limit.cancelled_caught:
                await _send_text(send, ": still here\n\n")
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _begin(self) -> int:
        """The number of the event after which the stream begins."""
        newest = self._feed.last_seq()
        if self._wanted.after is not None:
            return min(self._wanted.after, newest)
        return self._before_last(newest) if self._wanted.last else newest

    def _before_last(self, newest: int) -> int:
        """Look back, in ever greater steps, until enough events are found that somebody wants to see."""
        start, end, found = newest, newest, list[int]()
        while start > 0 and len(found) < self._wanted.last and newest - start < FARTHEST:
            start, end = max(start - max(PAGE, newest - start), 0), start
            page = self._feed.since(start, end - start)
            found = [event.seq for event in page if event.seq <= end and self._matches(event)] + found
        return found[-self._wanted.last :][0] - 1 if found else newest

    def _matches(self, event: E) -> bool:
        return all(str(getattr(event, name)) == value for name, value in self._wanted.filters.items())

    def _format(self, event: E) -> str:
        data = json.dumps(document_of(self._kind, event), ensure_ascii=False, separators=(",", ":"))
        return f"id: {event.seq}\nevent: {event.kind}\ndata: {data}\n\n"


def open_stream(
    request: Request,
    places: Places,
    feed: Feed[E],
    kind: type[E],
    filters: Sequence[str],
    last_event_id: str | None,
) -> EventStream[E]:
    """The stream that a request asks for; raises UnknownFilter, InvalidField for a useless Last-Event-ID, or Busy."""
    asked = check_query(request, (*filters, "last", "follow"))
    last, follow = _read_last(asked.pop("last", "0")), _read_follow(asked.pop("follow", "true"))
    wanted = Wanted(asked, None if last_event_id is None else _read_number(last_event_id), last, follow)
    if len(places.streams) >= MAX_STREAMS:
        raise Busy(f"{MAX_STREAMS} event streams are open already")
    return EventStream(places, feed, kind, wanted)


def stream_parameters(filters: Sequence[str]) -> dict[str, Any]:
    """The query fields of a stream, for OpenAPI."""
    last = {"type": "integer", "minimum": 0, "maximum": MAX_LAST}
    return {
        "parameters": [
            *parameters(filters, paged=False)["parameters"],
            declare("last", last, "begin with so many of the past"),
            declare("follow", {"type": "boolean"}, "whether the stream goes on with what is to come"),
        ]
    }


def _read_last(text: str) -> int:
    if not re.match(r"[0-9]{1,4}\Z", text) or int(text) > MAX_LAST:
        rule = f"a whole number from 0 to {MAX_LAST}"
        raise InvalidField("last", f"last takes {rule}", allowed=rule)
    return int(text)


def _read_follow(text: str) -> bool:
    if text not in ("true", "false"):
        raise InvalidField("follow", "follow takes true or false", allowed=["true", "false"])
    return text == "true"


def _read_number(text: str) -> int:
    if not re.match(r"[0-9]{1,18}\Z", text):
        raise InvalidField("Last-Event-ID", "Last-Event-ID takes the number of an event", allowed="a whole number")
    return int(text)


async def _cancel_when_gone(receive: Receive, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


async def _send_text(send: Send, text: str) -> None:
    with anyio.fail_after(SEND_LIMIT_S):
        await send({"type": "http.response.body", "body": text.encode(), "more_body": True})
