"""How a request reaches a host: one method, `send`, so that a controller can also speak to an agent in its own process."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

import urllib3
from urllib3.exceptions import HTTPError, LocationValueError, ReadTimeoutError

from garbi.base.errors import InvalidField, ServerUnreachable

CONNECT_S = 5.0
BLOCK = 2**16
USER_AGENT = "garbi"


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
        try:
            address = urllib3.util.parse_url(self.url)
        except LocationValueError:
            address = urllib3.util.Url()
        beyond = (address.auth, address.path, address.query, address.fragment)
        if address.scheme not in ("http", "https") or not address.host or any(beyond):
            rule = "http://host:port"
            raise InvalidField("url", f"{url!r} is not the address of a server: it takes {rule}", allowed=rule)
        self._pool = urllib3.connection_from_url(self.url, retries=False, maxsize=kept)
        self._lock = threading.Lock()
        self._read: set[urllib3.BaseHTTPResponse] = set()
        self._closed = False

    def send(self, request: Request) -> Answer:
        """Send a request; redirects are not followed, nothing is retried."""
        try:
            response = self._pool.urlopen(
                request.method,
                request.target,
                body=request.body,
                headers={"User-Agent": USER_AGENT, **request.headers},
                timeout=urllib3.Timeout(connect=min(CONNECT_S, request.timeout_s), read=request.timeout_s),
                redirect=False,
                preload_content=False,
                decode_content=False,
            )
        except (HTTPError, OSError) as error:
            raise self._unreachable(request, error) from error
        headers = {name.lower(): value for name, value in response.headers.items()}
        return Answer(response.status, headers, self._chunks(request, response))

    def close(self) -> None:
        """End every answer that is being read, in whatever thread, and the connections that were kept."""
        with self._lock:
            self._closed = True
            reading = list(self._read)
        for response in reading:
            _hang_up(response)
        self._pool.close()

    def _chunks(self, request: Request, response: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
        finished = False
        with self._lock:
            self._read.add(response)
            closed = self._closed
        if closed:
            _hang_up(response)
        try:
            # Not `stream(amt)`: it waits for a whole block, and events come one by one.
            while block := response.read1(BLOCK):
                yield block
            finished = True
        except (HTTPError, OSError) as error:
            raise self._unreachable(request, error) from error
        finally:
            with self._lock:
                self._read.discard(response)
            if finished:
                response.release_conn()
            else:
                response.close()

    def _unreachable(self, request: Request, error: Exception) -> ServerUnreachable:
        if isinstance(error, ReadTimeoutError):
            return ServerUnreachable(f"{self.url} did not answer within {request.timeout_s:.0f} s", url=self.url)
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        words = getattr(cause, "strerror", None) or type(cause).__name__
        return ServerUnreachable(f"no answer from {self.url}: {words}", url=self.url)


def _hang_up(response: urllib3.BaseHTTPResponse) -> None:
    """Let who reads the response find its end; one that has ended meanwhile cannot be hung up on."""
    with suppress(OSError, ValueError, RuntimeError):
        response.shutdown()
