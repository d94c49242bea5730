"""Hosts whose controller is the test: an agent and a watchdog in this process, with a clock that can be put forward."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.databases import put_agent_database
from tests.leases.words import BOOT, CONTROLLER, HOLDER, ForwardClock, OtherNodes, eventually, renewal
from tests.places import new_place

from garbi.hyper.agent.agent import Agent
from garbi.hyper.drivers.fake import FakeWorld
from garbi.hyper.leases.leases import LeaseStatus
from garbi.hyper.main import open_agent
from garbi.hyper.model.machine import Machine, MachineSpec, NodeFailurePolicy, State
from garbi.hyper.settings import Settings
from garbi.hyper.watchdog.opening import open_watchdog
from garbi.hyper.watchdog.watchdog import Watchdog
from garbi.hyper_api.assignment import CONTROLLER_LABEL, EPOCH_LABEL, Assignment


@dataclass
class LeasedHost:
    """A host with fake machines. Its agent and its watchdog come and go."""

    settings: Settings
    clock: ForwardClock
    others: OtherNodes
    agent: Agent | None = None
    watchdog: Watchdog | None = None

    @property
    def living(self) -> Agent:
        assert self.agent is not None
        return self.agent

    @property
    def world(self) -> FakeWorld:
        path = self.settings.data_dir / "drivers" / "fake"
        path.mkdir(parents=True, exist_ok=True)
        return FakeWorld.at(path)

    def start_agent(self) -> Agent:
        self.agent = open_agent(self.settings, self.clock, ask=self.others)
        return self.agent

    def stop_agent(self) -> None:
        if self.agent is not None:
            self.agent.close()
        self.agent = None

    def start_watchdog(self) -> Watchdog:
        self.watchdog = open_watchdog(self.settings, self.clock, ask=self.others)
        self.watchdog.tick()
        return self.watchdog

    def stop_watchdog(self) -> None:
        if self.watchdog is not None:
            self.watchdog.close()
        self.watchdog = None

    def renew(self, seen: float | None, **others: object) -> LeaseStatus:
        """Renew the lease as one who has seen that moment."""
        return self.living.leases.renew(renewal(seen, **others))

    def arm(self, **others: object) -> LeaseStatus:
        """Begin a lease that ends by itself."""
        if self.watchdog is not None:
            self.watchdog.tick()
        first = self.renew(None, **others)
        status = self.renew(first.moment, **others)
        assert status.lease.armed
        return status

    def add(self, name: str, number: int = 1, policy: str = "recreate", controller: str = CONTROLLER) -> Machine:
        """A machine that a controller ordered."""
        labels = {CONTROLLER_LABEL: controller, EPOCH_LABEL: "1"}
        order = Assignment(CONTROLLER, HOLDER, 1, number, 1) if controller == CONTROLLER else None
        self.living.machines.add(
            MachineSpec(image="any", type="fake", id=name, labels=labels, on_node_failure=NodeFailurePolicy(policy)),
            assignment=order,
        )
        self.await_state(name, State.RUNNING)
        return self.living.machines.get(name)

    def state(self, name: str) -> tuple[State, str]:
        machine = self.living.machines.get(name)
        return machine.state, machine.reason

    def await_state(self, name: str, state: State) -> None:
        eventually(f"{name} is {state}", lambda: self.living.machines.get(name).state is state)

    def runs(self, name: str) -> bool:
        """Whether the daemon runs the machine."""
        return self.world.machine(name).powered


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A directory that other users may pass through, as a hypervisor must."""
    path = new_place("garbi-lease-")
    yield path
    shutil.rmtree(path)


@pytest.fixture
def host(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LeasedHost]:
    """A host whose agent runs, in the boot that `boot` names."""
    set_boot(monkeypatch, BOOT)
    settings = Settings(data_dir=data_dir, drivers={"fake": {"persist": "true"}}, mem_limit_mib=4096)
    put_agent_database(data_dir)
    leased = LeasedHost(settings, ForwardClock(), OtherNodes())
    leased.start_agent()
    yield leased
    leased.stop_agent()
    leased.stop_watchdog()


SetBoot = Callable[[str], None]


@pytest.fixture
def boot(monkeypatch: pytest.MonkeyPatch) -> SetBoot:
    """Lets the host boot again, as far as agents and watchdogs that start can tell."""
    return lambda name: set_boot(monkeypatch, name)


def set_boot(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    for module in ("garbi.hyper.main", "garbi.hyper.watchdog.opening"):
        monkeypatch.setattr(f"{module}.boot_id", lambda: name)
