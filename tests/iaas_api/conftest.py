"""A cloud for each module of tests: a real controller over HTTP, and real agents with fake machines that it commands."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.databases import put_agent_database, put_controller_database
from tests.places import new_place

from garbi.hyper.agent import Agent
from garbi.hyper.drivers.fake import FakeWorld
from garbi.hyper.main import open_agent
from garbi.hyper.rest.server import Service as AgentService
from garbi.hyper.settings import Settings as AgentSettings
from garbi.iaas.controller import Controller
from garbi.iaas.main import open_controller
from garbi.iaas.rest.server import Service
from garbi.iaas.settings import Settings
from garbi.iaas_api.client import IaasClient
from garbi.web import server as web_server

LIMIT_S = 120.0
SPEC = {"image": "any", "type": "fake", "mem": 64}
_pause = threading.Event()


@dataclass(frozen=True)
class Reply:
    """An answer as it was on the wire."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Host:
    """A running agent."""

    name: str
    url: str
    agent: Agent

    @property
    def world(self) -> FakeWorld:
        """The fake daemon."""
        return FakeWorld.at(self.agent.settings.data_dir / "drivers" / "fake")

    @property
    def request(self) -> dict[str, Any]:
        """What makes it a node."""
        address = urlsplit(self.url).netloc
        return {"name": self.name, "address": address, "provision": False, "token": self.agent.secret}


@dataclass
class Cloud:
    """A running controller, and the hosts that can be its nodes."""

    url: str
    controller: Controller
    place: Path
    stack: ExitStack
    hosts: dict[str, Host] = field(default_factory=dict)

    @property
    def client(self) -> IaasClient:
        return IaasClient(self.url, token=self.controller.secret)

    @property
    def identity(self) -> dict[str, str]:
        """The header by which who asks is known."""
        return {"Authorization": f"Bearer {self.controller.secret}"}

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

    def start_host(self, name: str, fake: dict[str, str] | None = None, mem: int = 4096) -> Host:
        """Start a host that is no node yet, with so much memory in MiB; `fake` are settings of its fake driver."""
        place = self.place / name
        drivers = {"fake": {"persist": "true", **(fake or {})}}
        settings = AgentSettings(
            data_dir=place, node_name=name, drivers=drivers, mem_limit_mib=mem, stop_deadline_s=5.0
        )
        put_agent_database(place)
        agent = open_agent(settings)
        self.stack.callback(agent.close)
        service = AgentService(agent, "127.0.0.1", 0)
        self.stack.enter_context(running(service))
        self.hosts[name] = Host(name, service.url, agent)
        return self.hosts[name]

    def add_node(self, name: str, fake: dict[str, str] | None = None, mem: int = 4096, **request: Any) -> Host:
        """Start a host and make it a node, which is ready when this returns."""
        host = self.start_host(name, fake, mem)
        self.finish(self.client.nodes.add({**host.request, **request})["operation"])
        assert self.client.nodes.get(name)["state"] == "ready"
        return host

    def finish(self, operation: str) -> dict[str, Any]:
        """The operation once it has finished."""
        *_, last = self.client.operations.follow(operation)
        return last


@contextmanager
def running(service: web_server.Service) -> Iterator[None]:
    """Answer in a thread of its own, for as long as the block runs; the server must end in time."""
    thread = threading.Thread(target=service.run)
    thread.start()
    try:
        yield
    finally:
        service.stop()
        thread.join(LIMIT_S)
        assert not thread.is_alive()


StartCloud = Callable[..., Cloud]


@contextmanager
def cloud_in(place: Path, keep_alive_s: float = 15.0, **others: Any) -> Iterator[Cloud]:
    """A cloud without nodes below a directory; `others` are settings of its controller."""
    settings = Settings(data_dir=place / "iaas", check_period_s=0.2, unreachable_after_s=2.0, **others)
    with ExitStack() as stack:
        put_controller_database(settings.data_dir)
        controller = open_controller(settings)
        stack.callback(controller.close)
        service = Service(controller, "127.0.0.1", 0, keep_alive_s)
        stack.enter_context(running(service))
        yield Cloud(service.url, controller, place, stack)


@contextmanager
def place() -> Iterator[Path]:
    path = new_place("garbi-iaas-")
    yield path
    shutil.rmtree(path)


@pytest.fixture
def start_cloud() -> Iterator[StartCloud]:
    """Starts a cloud without nodes."""
    with ExitStack() as stack:

        def start(keep_alive_s: float = 15.0) -> Cloud:
            return stack.enter_context(cloud_in(stack.enter_context(place()), keep_alive_s))

        yield start


@pytest.fixture
def empty_cloud(start_cloud: StartCloud) -> Cloud:
    """A cloud without nodes."""
    return start_cloud()


@pytest.fixture(scope="module")
def shared_cloud() -> Iterator[Cloud]:
    with place() as path, cloud_in(path) as cloud:
        cloud.add_node("n1")
        yield cloud


@pytest.fixture
def cloud(shared_cloud: Cloud) -> Iterator[Cloud]:
    """A cloud of one node, n1, whose fake machines do at once what they are told; what a test makes there is removed."""
    yield shared_cloud
    client = shared_cloud.client
    for machine in client.machines.list():
        client.machines.remove(machine["id"], wait_s=LIMIT_S)
    for image in client.images.list():
        client.images.remove(image["name"])


@pytest.fixture(scope="module")
def still_cloud() -> Iterator[Cloud]:
    """One cloud of one node for all tests of a module that only send what is refused, or only look."""
    with place() as path, cloud_in(path) as cloud:
        cloud.add_node("n1")
        yield cloud


def eventually(look: Callable[[], bool], what: str) -> None:
    """Wait for a state, with a limit that only a broken service reaches."""
    deadline = time.monotonic() + LIMIT_S
    while not look():
        assert time.monotonic() < deadline, f"not in time: {what}"
        _pause.wait(0.02)
