"""The connection to one Docker Engine, shared by every thread of the driver, and made anew when the engine was away."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from docker.api.client import APIClient
from docker.errors import DockerException, StreamParseError
from docker.utils import version_lt
from requests.exceptions import RequestException
from urllib3.exceptions import HTTPError

from garbi.base.errors import DriverUnavailable
from garbi.hyper.drivers.docker.lives import life_at
from garbi.hyper.drivers.docker.refusals import error_for, plain

DEFAULT_HOST = "unix:///var/run/docker.sock"
_UNIX = "unix://"
OLDEST_API = "1.41"
"""That of Docker Engine 20.10, the oldest that this driver is tested with."""

HELLO_TIMEOUT_S = 5.0
CALL_TIMEOUT_S = 120.0
CONTENT_TIMEOUT_S = 3600.0
"""How long the engine may take to say its version, to do a verb, and to unpack or fetch an image without a word."""

SHORT_TIMEOUT_S = 3.0
"""The same for who has other ways to know."""

CONNECTIONS_KEPT = 16

_SILENCES = (RequestException, HTTPError, DockerException, StreamParseError, OSError)


@dataclass(frozen=True, slots=True)
class EngineVersion:
    """What the engine says of itself."""

    version: str
    api: str
    system: str


class Engine:
    """One engine. Every method may be called from any thread; the library's exceptions leave as Garbi's errors."""

    def __init__(self, host: str) -> None:
        self.host = host
        self._client: APIClient | None = None
        self._lock = threading.Lock()
        self._closed = False

    @contextmanager
    def talk(self) -> Iterator[APIClient]:
        """Lend the shared client for calls that end soon; a lost connection is forgotten, so that the next call makes one."""
        client: APIClient | None = None
        try:
            client = self._shared()
            yield client
        except _SILENCES as error:
            translated = error_for(error, self.host)
            if isinstance(translated, DriverUnavailable):
                self._forget(client)
            raise translated from error

    @contextmanager
    def talk_alone(self, timeout_s: float) -> Iterator[APIClient]:
        """Lend a client of one's own, for a call that may take long, or that is ended by closing its connection."""
        try:
            with self._connect(timeout_s, kept=1) as client:
                yield client
        except _SILENCES as error:
            raise error_for(error, self.host) from error

    @contextmanager
    def talk_shortly(self) -> Iterator[APIClient]:
        """Lend a client for whom an engine that hangs is soon one that does not answer."""
        try:
            with self._make_client(OLDEST_API, SHORT_TIMEOUT_S, kept=1) as client:
                yield client
        except _SILENCES as error:
            raise error_for(error, self.host) from error

    def version(self) -> EngineVersion:
        """Ask the engine what it is; raises DriverUnavailable."""
        try:
            return self._greet()
        except _SILENCES as error:
            raise error_for(error, self.host) from error

    def life(self) -> str:
        """Which life of the engine answers now; empty where this host does not show it.

        Raises DriverUnavailable, also when an engine that is ending still answers on connections that it has.
        """
        try:
            if self.host.startswith(_UNIX):
                return life_at(self.host.removeprefix(_UNIX), HELLO_TIMEOUT_S)
            self._greet()
        except _SILENCES as error:
            raise error_for(error, self.host) from error
        return ""

    def close(self) -> None:
        """Close the connections that are not in use; every later call raises DriverUnavailable."""
        with self._lock:
            self._closed = True
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def _shared(self) -> APIClient:
        with self._lock:
            if self._client is None:
                self._client = self._connect(CALL_TIMEOUT_S, CONNECTIONS_KEPT)
            return self._client

    def _forget(self, client: APIClient | None) -> None:
        """Let the next call connect anew. The client is not closed: other threads may be in the middle of a call with it."""
        with self._lock:
            if self._client is client:
                self._client = None

    def _connect(self, timeout_s: float, kept: int) -> APIClient:
        if self._closed:
            raise DriverUnavailable("the docker driver was closed")
        return self._make_client(self._greet().api, timeout_s, kept)

    def _greet(self) -> EngineVersion:
        with self._make_client(OLDEST_API, HELLO_TIMEOUT_S, kept=1) as client:
            said: dict[str, Any] = client.version(api_version=False)
        version, api = str(said.get("Version", "")), str(said.get("ApiVersion", "0"))
        if version_lt(api, OLDEST_API):
            raise DriverUnavailable(f"Docker Engine {plain(version)} at {self.host} is too old; install 20.10 or newer")
        return EngineVersion(version, api, f"{said.get('Os', '')}/{said.get('Arch', '')}")

    def _make_client(self, api: str, timeout_s: float, kept: int) -> APIClient:
        client = APIClient(base_url=self.host, version=api, timeout=timeout_s, max_pool_size=kept)  # type: ignore[arg-type]
        client.trust_env = (
            False  # no proxy stands between us and the engine, and looking for one costs time at each call
        )
        return client
