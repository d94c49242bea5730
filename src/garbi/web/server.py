"""Serves an application over HTTP until it is told to end."""

from __future__ import annotations

import errno
import resource
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn
from anyio import to_thread
from fastapi import FastAPI

from garbi.base.errors import FinalError, PortTaken

GRACE_S = 3
BACKLOG = 512


class Service:
    """One application at one address: listening from its construction, answering while `run` runs.

    `take_leave` is called when it is told to end, while it still answers; `let_go` then ends what waits, in the event loop, so
    that the server can end. Port 0 takes a free one. Raises PortTaken, or
    FinalError for a useless address.
    """

    def __init__(
        self,
        app: FastAPI,
        host: str,
        port: int,
        let_go: Callable[[], None],
        take_leave: Callable[[], None] = lambda: None,
    ) -> None:
        self._listener = _listen(host, port)
        self.url = _url(self._listener)
        config = uvicorn.Config(
            app,
            access_log=False,
            log_config=None,
            log_level="warning",
            server_header=False,
            ws="none",
            lifespan="on",
            timeout_graceful_shutdown=GRACE_S,
        )
        self._server = _Server(config, let_go, take_leave)

    def run(self, greeting: str = "") -> None:
        """Answer until `stop`, or SIGTERM or SIGINT when this is the main thread; print `greeting` when these are heard."""
        _allow_many_files()
        try:
            with _signals_end_only(self):
                if greeting:
                    print(greeting, flush=True)
                self._server.run(sockets=[self._listener])
        finally:
            self._listener.close()

    def stop(self) -> None:
        """Tell `run` to end; from any thread."""
        self._server.should_exit = True


class _Server(uvicorn.Server):
    """A server that lets go of what waits before it waits for what runs."""

    def __init__(self, config: uvicorn.Config, let_go: Callable[[], None], take_leave: Callable[[], None]) -> None:
        super().__init__(config)
        self._let_go = let_go
        self._take_leave = take_leave

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await to_thread.run_sync(self._take_leave)
        self._let_go()
        await super().shutdown(sockets)


@contextmanager
def _signals_end_only(service: Service) -> Iterator[None]:
    """uvicorn raises the signal that ended it once more; what follows here is the orderly end, not a second death.

    A signal that comes before uvicorn listens to them ends it as soon as it does.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, lambda *_: service.stop()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _allow_many_files() -> None:
    """Two sockets keep each published port: the usual soft limit would end at four machines of many ports."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            detail = f"port {port} of {host} is in use by another program; choose another one with --port"
            raise PortTaken(detail, field="port") from error
        raise FinalError(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
    # Connections inherit it. asyncio sets it on sockets that name their protocol only, and without it the body of an answer
    # waits 40 ms for the acknowledgement of its head.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
