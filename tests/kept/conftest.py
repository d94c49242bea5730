"""Agents for tests of kept disks: fake machines, and a clock whose hands can be turned."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.agent.conftest import data_dir as data_dir
from tests.agent.conftest import free_port as free_port
from tests.agent.conftest import world_of
from tests.conformance.bench import eventually
from tests.databases import put_agent_database

from garbi.base.clock import SystemClock
from garbi.hyper.agent import Agent
from garbi.hyper.drivers.fake import FakeWorld
from garbi.hyper.loops import keeping
from garbi.hyper.main import open_agent
from garbi.hyper.model.machine import Machine, MachineSpec
from garbi.hyper.settings import Settings

PATIENCE_S = 120.0
SPEC = MachineSpec(image="any", type="fake", id="web", mem=64)


@dataclass
class TurnableClock(SystemClock):
    """The clock of this host, set forward: what people read, and what durations are measured by."""

    shown: timedelta = timedelta()
    passed_s: float = 0.0

    def now(self) -> datetime:
        return datetime.now(UTC) + self.shown

    def monotonic(self) -> float:
        return super().monotonic() + self.passed_s


Open = Callable[..., Agent]


@pytest.fixture
def clock() -> TurnableClock:
    return TurnableClock()


@pytest.fixture
def opener(data_dir: Path, clock: TurnableClock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    """Opens the agent of the test's directory; kept disks are looked after all the time, `fake` are the driver's settings."""
    monkeypatch.setattr(keeping, "PERIOD_S", 0.05)
    opened: list[Agent] = []

    def opens(**fake: str) -> Agent:
        settings = Settings(data_dir=data_dir, mem_limit_mib=4096, drivers={"fake": {"persist": "true", **fake}})
        put_agent_database(data_dir)
        opened.append(open_agent(settings, clock))
        return opened[-1]

    yield opens
    for agent in opened:
        agent.close()


@pytest.fixture
def agent(opener: Open) -> Agent:
    return opener()


@pytest.fixture
def world(agent: Agent) -> FakeWorld:
    return world_of(agent)


def made(agent: Agent, spec: MachineSpec = SPEC) -> Machine:
    """A machine that is as it was wished."""
    machine = agent.machines.add(spec)
    settled = agent.machines.wait_settled(machine.id, PATIENCE_S)
    assert settled is not None
    assert settled.settled
    return settled


def removed(agent: Agent, machine_id: str, keep_s: int) -> None:
    """Remove a machine and wait until it is gone."""
    agent.machines.remove(machine_id, keep_s)
    eventually(f"{machine_id} gone", lambda: agent.machines.wait_settled(machine_id, 1.0) is None, PATIENCE_S)


def kept_names(agent: Agent) -> list[str]:
    return [record.name for record in agent.kept.list()]
