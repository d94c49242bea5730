"""Answers requests by the real REST application of an agent, without a server and without an event loop."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from garbi.base.http import Request


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes


App = Callable[..., Awaitable[None]]


async def inline(work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """What the framework takes for its thread pool: the task that serves the request does the work itself."""
    return work(*args, **kwargs)


def unthread_framework() -> None:
    """Have endpoints run where their request is served."""
    import fastapi.concurrency
    import fastapi.dependencies.utils
    import fastapi.routing
    import starlette.background
    import starlette.concurrency

    for module in (
        fastapi.concurrency,
        fastapi.dependencies.utils,
        fastapi.routing,
        starlette.background,
        starlette.concurrency,
    ):
        if hasattr(module, "run_in_threadpool"):
            module.run_in_threadpool = inline  # type: ignore[attr-defined]


def answer(app: App, request: Request, host: str, port: int) -> Reply:
    """Have an ASGI application answer; it must not wait for anything but by the simulation's own means."""
    path, _, query = request.target.partition("?")
    body = request.body if isinstance(request.body, bytes) else b"".join(request.body or ())
    headers = [(name.lower().encode(), value.encode()) for name, value in request.headers.items()]
    headers.append((b"host", f"{host}:{port}".encode()))
    if body:
        headers.append((b"content-length", str(len(body)).encode()))
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": "http",
        "path": unquote(path),
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "server": (host, port),
        "state": {},
    }
    incoming = [{"type": "http.request", "body": body, "more_body": False}]
    sent: list[Mapping[str, Any]] = []

    async def receive() -> Mapping[str, Any]:
        return incoming.pop() if incoming else {"type": "http.disconnect"}

    async def send(message: Mapping[str, Any]) -> None:
        sent.append(message)

    work = app(scope, receive, send)
    try:
        work.send(None)  # type: ignore[attr-defined]
    except StopIteration:
        pass
    else:
        raise AssertionError(f"{request.method} {path} waits for an event loop")
    start = sent[0]
    found = {name.decode().lower(): value.decode() for name, value in start["headers"]}
    return Reply(start["status"], found, b"".join(message.get("body", b"") for message in sent[1:]))


def problem(reply: Reply) -> str:
    """What an answer says, for a trace."""
    if reply.status < 400:
        return str(reply.status)
    try:
        return f"{reply.status} {json.loads(reply.body).get('detail', '')}"
    except ValueError:
        return str(reply.status)
