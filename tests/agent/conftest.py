"""Agents for tests: each with its own data directory, its own cluster id, and fake machines that outlive it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests import free_ports
from tests.databases import put_agent_database
from tests.places import new_place

from garbi.hyper.agent.agent import Agent
from garbi.hyper.drivers.fake import FakeWorld
from garbi.hyper.main import open_agent
from garbi.hyper.settings import Settings

OpenAgent = Callable[..., Agent]


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A directory that other users may pass through, as a hypervisor must."""
    path = new_place("garbi-test-")
    yield path
    shutil.rmtree(path)


@pytest.fixture
def open_fake_agent(data_dir: Path) -> Iterator[OpenAgent]:
    """Opens an agent on the test's directory; `fake` are settings of the fake driver, the rest are settings of the agent."""
    opened: list[Agent] = []

    def opener(fake: dict[str, str] | None = None, **settings: object) -> Agent:
        values: dict[str, object] = {"mem_limit_mib": 4096, "stop_deadline_s": 5.0, "data_dir": data_dir, **settings}
        made = Settings(drivers={"fake": {"persist": "true", **(fake or {})}}, **values)  # type: ignore[arg-type]
        put_agent_database(made.data_dir)
        agent = open_agent(made)
        opened.append(agent)
        return agent

    yield opener
    for agent in opened:
        agent.close()


@pytest.fixture
def agent(open_fake_agent: OpenAgent) -> Agent:
    """An agent whose fake machines do at once what they are told."""
    return open_fake_agent()


@pytest.fixture
def world(agent: Agent, data_dir: Path) -> FakeWorld:
    """The daemon behind the fake driver, to play with."""
    return world_of(agent)


def world_of(agent: Agent) -> FakeWorld:
    path = agent.settings.data_dir / "drivers" / "fake"
    path.mkdir(parents=True, exist_ok=True)  # the driver is loaded when it is first asked for
    return FakeWorld.at(path)


@pytest.fixture
def free_port() -> int:
    """A port that nobody has at this moment."""
    return free_ports.free_port()
