"""How a request reaches a host: one method, `send`, so that a controller can also speak to an agent in its own process."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection, IncompleteRead
from typing import Protocol
from urllib.parse import SplitResult, urlsplit

from garbi.base.errors import InvalidField, ServerUnreachable

CONNECT_S = 5.0
BLOCK = 2**16
USER_AGENT = "garbi"
KINDS: Mapping[str, type[HTTPConnection]] = {"http": HTTPConnection, "https": HTTPSConnection}


@dataclass(frozen=True, slots=True)
class Request:
    """One request; `target` is path and query. `timeout_s` is the longest silence that is borne."""

    method: str
    target: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | Iterable[bytes] | None = None
    timeout_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: names of headers in lower case, and the body as it arrives; whoever stops early closes `chunks`."""

    status: int
    headers: Mapping[str, str]
    chunks: Iterator[bytes]

    def read(self) -> bytes:
        """The whole body."""
        return b"".join(self.chunks)


class Transport(Protocol):
    """Carries requests to one host."""

    def send(self, request: Request) -> Answer:
        """Send a request and return its answer, whatever its status; raises ServerUnreachable."""


class HttpTransport:
    """Over HTTP, with connections, at most `kept` of them, that are kept for the next request."""

    def __init__(self, url: str, kept: int = 4) -> None:
        self.url = url.rstrip("/")
        self._address = _parse(self.url)
        self._kept = kept
        self._lock = threading.Lock()
        self._idle: list[HTTPConnection] = []
        self._read: set[socket.socket] = set()
        self._closed = False

    def send(self, request: Request) -> Answer:
        """Send a request; redirects are not followed, nothing is retried."""
        try:
            connection = self._idle_connection() or self._connect(request.timeout_s)
            line = connection.sock
            try:
                response = _exchange(connection, request)
            except BaseException:
                connection.close()
                raise
        except (HTTPException, OSError) as error:
            raise self._unreachable(request, error) from error
        headers = {name.lower(): value for name, value in response.headers.items()}
        return Answer(response.status, headers, self._chunks(request, connection, line, response))

    def close(self) -> None:
        """End every answer that is being read, in whatever thread, and the connections that were kept."""
        with self._lock:
            self._closed = True
            reading = list(self._read)
            idle, self._idle = self._idle, []
        for line in reading:
            _hang_up(line)
        for connection in idle:
            connection.close()

    def _idle_connection(self) -> HTTPConnection | None:
        """One that was kept and that the server has not given up meanwhile."""
        while True:
            with self._lock:
                if self._closed:
                    raise ServerUnreachable(f"the connections to {self.url} were closed", url=self.url)
                if not self._idle:
                    return None
                connection = self._idle.pop()
            if not _has_word(connection.sock):
                return connection
            connection.close()

    def _connect(self, patience_s: float) -> HTTPConnection:
        timeout_s = min(CONNECT_S, patience_s)
        host, port = self._address.hostname or "", self._address.port
        connection = KINDS[self._address.scheme](host, port, timeout=timeout_s)
        try:
            connection.connect()
        except TimeoutError as error:
            detail = f"no answer from {self.url}: no connection within {timeout_s:g} s"
            raise ServerUnreachable(detail, url=self.url) from error
        return connection

    def _chunks(
        self, request: Request, connection: HTTPConnection, line: socket.socket, response: HTTPResponse
    ) -> Iterator[bytes]:
        finished = False
        with self._lock:
            self._read.add(line)
            closed = self._closed
        if closed:
            _hang_up(line)
        try:
            # Not `read(n)`: it waits for a whole block, and events come one by one.
            while block := response.read1(BLOCK):
                yield block
            if response.length:
                raise IncompleteRead(b"", response.length)
            finished = True
        except (HTTPException, OSError, ValueError) as error:
            raise self._unreachable(request, error) from error
        finally:
            with self._lock:
                self._read.discard(line)
            response.close()
            if not finished or not self._keep(connection):
                connection.close()

    def _keep(self, connection: HTTPConnection) -> bool:
        """Whether it is kept for the next request; one that the server ends after its answer has no line any more."""
        with self._lock:
            room = connection.sock is not None and not self._closed and len(self._idle) < self._kept
            if room:
                self._idle.append(connection)
        return room

    def _unreachable(self, request: Request, error: Exception) -> ServerUnreachable:
        if isinstance(error, TimeoutError):
            return ServerUnreachable(f"{self.url} did not answer within {request.timeout_s:.0f} s", url=self.url)
        words = getattr(error, "strerror", None) or type(error).__name__
        return ServerUnreachable(f"no answer from {self.url}: {words}", url=self.url)


def _parse(url: str) -> SplitResult:
    """The address of a server; raises InvalidField when it is none."""
    try:
        address = urlsplit(url)
        HTTPConnection(address.hostname or "", address.port)  # which looks at the name, and connects to nothing yet
        useless = not address.hostname or address.scheme not in KINDS
    except (ValueError, HTTPException):
        useless = True
    if useless or any((address.username, address.path, address.query, address.fragment)):
        rule = "http://host:port"
        raise InvalidField("url", f"{url!r} is not the address of a server: it takes {rule}", allowed=rule)
    return address


def _exchange(connection: HTTPConnection, request: Request) -> HTTPResponse:
    """The head of the answer to a request. A server may refuse what it has not read to its end: that is an answer too."""
    connection.sock.settimeout(request.timeout_s)
    with suppress(BrokenPipeError, ConnectionResetError):
        connection.request(request.method, request.target, request.body, {"User-Agent": USER_AGENT, **request.headers})
    return connection.getresponse()


def _has_word(line: socket.socket) -> bool:
    """Whether there is something to read where nothing was asked: the end, as a rule."""
    poll = select.poll()
    poll.register(line, select.POLLIN)
    return bool(poll.poll(0))


def _hang_up(line: socket.socket) -> None:
    """Let who reads find the end; a line that has ended meanwhile cannot be hung up on."""
    with suppress(OSError):
        line.shutdown(socket.SHUT_RD)
