"""A server for each test: a real agent with fake machines, answering over HTTP on a free port of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.databases import put_agent_database
from tests.places import new_place

from garbi.base.token import TOKEN_FILE, read_secret
from garbi.hyper.agent import Agent
from garbi.hyper.drivers.fake import FakeWorld
from garbi.hyper.main import open_agent
from garbi.hyper.rest.server import Service
from garbi.hyper.settings import Settings
from garbi.hyper_api.client import HyperClient

HYPER = Path(sys.executable).parent / "hyper"
LIMIT_S = 120.0


@dataclass(frozen=True)
class Reply:
    """An answer as it was on the wire."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Server:
    """A running server and what is behind it."""

    url: str
    agent: Agent

    @property
    def world(self) -> FakeWorld:
        """The fake daemon."""
        return FakeWorld.at(self.agent.settings.data_dir / "drivers" / "fake")

    @property
    def client(self) -> HyperClient:
        return HyperClient(self.url, token=self.agent.secret)

    @property
    def identity(self) -> dict[str, str]:
        """The header by which who asks is known."""
        return {"Authorization": f"Bearer {self.agent.secret}"}

    @property
    def environment(self) -> dict[str, str]:
        """What the command line needs in order to find this server and to be known to it."""
        token_file = str(self.agent.settings.data_dir / TOKEN_FILE)
        return {**os.environ, "GARBI_HYPER_URL": self.url, "GARBI_HYPER_TOKEN_FILE": token_file}

    def ask(
        self,
        method: str,
        target: str,
        body: Any = None,
        headers: dict[str, str] | None = None,
        raw: bytes | None = None,
        known: bool = True,
    ) -> Reply:
        """Send one request as it is; `body` is sent as JSON, `raw` as it stands. Who is not `known` shows no token."""
        content = json.dumps(body).encode() if body is not None else raw
        sent = {
            **(self.identity if known else {}),
            **({"Content-Type": "application/json"} if body is not None else {}),
        }
        connection = HTTPConnection(urlsplit(self.url).netloc, timeout=LIMIT_S)
        try:
            connection.request(method, target, content, {**sent, **(headers or {})})
            answer = connection.getresponse()
            return Reply(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def hyper(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run the command line against this server."""
        environment = {**self.environment, "HOME": str(self.agent.settings.data_dir)}
        return run_hyper(*arguments, stdin=stdin, environment=environment)


def run_hyper(*arguments: str, stdin: str = "", environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [HYPER, *arguments], input=stdin, env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False
    )


def client_of(url: str, data_dir: Path) -> HyperClient:
    """A client that knows the token of the agent of a directory."""
    return HyperClient(url, token=read_secret(data_dir / TOKEN_FILE))


StartServer = Callable[..., Server]


@pytest.fixture
def data_dir() -> Iterator[Path]:
    path = new_place("garbi-api-")
    yield path
    shutil.rmtree(path)


@pytest.fixture
def start_server(data_dir: Path) -> Iterator[StartServer]:
    """Starts a server; `fake` are settings of the fake driver."""
    running: list[Any] = []

    def start(fake: dict[str, str] | None = None, keep_alive_s: float = 15.0) -> Server:
        settings = _settings(data_dir / str(len(running)), fake or {})
        context = serving(open_agent(settings), keep_alive_s)
        running.append(context)
        return context.__enter__()

    yield start
    for context in reversed(running):
        context.__exit__(None, None, None)


def _settings(place: Path, fake: dict[str, str]) -> Settings:
    """Those of an agent in that directory, which has an empty database."""
    drivers = {"fake": {"persist": "true", **fake}}
    put_agent_database(place)
    return Settings(data_dir=place, drivers=drivers, mem_limit_mib=4096, stop_deadline_s=5.0)


@contextmanager
def serving(agent: Agent, keep_alive_s: float) -> Iterator[Server]:
    """A server in a thread of its own, for as long as the block runs; it must end in time."""
    service = Service(agent, "127.0.0.1", 0, keep_alive_s)
    thread = threading.Thread(target=service.run)
    thread.start()
    try:
        yield Server(service.url, agent)
    finally:
        service.stop()
        thread.join(LIMIT_S)
        agent.close()
        assert not thread.is_alive()


@pytest.fixture(scope="module")
def still_server() -> Iterator[Server]:
    """One server for all tests of a module that only send what is refused, or only look."""
    place = new_place("garbi-api-")
    with serving(open_agent(_settings(place, {})), 15.0) as server:
        yield server
    shutil.rmtree(place)


@pytest.fixture
def server(start_server: StartServer) -> Server:
    """A server whose fake machines do at once what they are told."""
    return start_server()


@pytest.fixture
def web(server: Server) -> dict[str, Any]:
    """A running machine called web."""
    return server.client.machines.add({"image": "any", "type": "fake", "id": "web"})
