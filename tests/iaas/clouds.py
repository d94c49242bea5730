"""A controller and real agents with fake machines, for the tests: started on free ports, killed, started again, taken away."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from tests.databases import put_agent_database, put_controller_database
from tests.free_ports import free_port

from garbi.hyper.agent import Agent
from garbi.hyper.drivers.fake import FakeWorld
from garbi.hyper.main import open_agent
from garbi.hyper.rest.server import Service
from garbi.hyper.settings import Settings as AgentSettings
from garbi.hyper_api.client import HyperClient
from garbi.hyper_api.vocabulary import PublishedPort, State
from garbi.iaas.controller import Controller
from garbi.iaas.fences.protocol import Fence
from garbi.iaas.main import open_controller
from garbi.iaas.model.machine import Machine, MachineSpec
from garbi.iaas.model.node import Node, NodeSpec, NodeState
from garbi.iaas.model.operation import Operation, OperationState
from garbi.iaas.settings import Settings
from garbi.iaas.store import meta
from garbi.iaas.store.database import Database

LIMIT_S = 90.0


class FakeHost:
    """A host of the cloud: an agent with the fake driver at an address of its own, which may die and come back."""

    def __init__(
        self, root: Path, name: str, fake: Mapping[str, str] | None = None, mem: int = 4096, simulated: bool = True
    ) -> None:
        self.name = name
        self._simulated = simulated
        self.port = free_port()
        self._settings = AgentSettings(
            data_dir=root / name,
            node_name=name,
            drivers={"fake": {"persist": "true", **(fake or {})}},
            mem_limit_mib=mem,
            stop_deadline_s=5.0,
        )
        self._agent: Agent | None = None
        self._service: Service | None = None
        self._thread: threading.Thread | None = None
        self.token = ""
        self.start()

    @property
    def agent(self) -> Agent:
        assert self._agent is not None
        return self._agent

    @property
    def settings(self) -> AgentSettings:
        """Those of its agent."""
        return self._settings

    @property
    def data_dir(self) -> Path:
        """Where its agent keeps what it knows."""
        return self._settings.data_dir

    @property
    def world(self) -> FakeWorld:
        """Its pretended daemon, which goes on when the agent dies."""
        engine = self._settings.drivers["fake"].get("engine")
        return FakeWorld.at(Path(engine) if engine else self._settings.data_dir / "drivers" / "fake")

    @property
    def client(self) -> HyperClient:
        return HyperClient(f"http://127.0.0.1:{self.port}", token=self.token)

    def spec(self, **changes: object) -> NodeSpec:
        """What adds it as a node."""
        return replace(NodeSpec(self.name, "127.0.0.1", self.port, provision=False), **changes)  # type: ignore[arg-type]

    def running(self) -> list[str]:
        """The machines that run there, whatever any agent says."""
        return sorted(machine.id for machine in self.world.machines() if machine.powered and machine.cluster_id)

    def start(self) -> None:
        """Let the agent work and answer."""
        put_agent_database(self._settings.data_dir)
        (self._settings.data_dir / "drivers" / "fake").mkdir(parents=True, exist_ok=True)  # where `world` looks
        self._agent = open_agent(self._settings, simulated=self._simulated)
        self.token = self._agent.secret
        self.open()

    def open(self) -> None:
        """Let the agent answer."""
        self._service = Service(self.agent, "127.0.0.1", self.port, 1.0)
        self._thread = threading.Thread(target=self._service.run)
        self._thread.start()

    def hide(self) -> None:
        """Let the agent work on, and answer nobody."""
        if self._service is not None and self._thread is not None:
            self._service.stop()
            self._thread.join(LIMIT_S)
            self._service = None

    def stop(self) -> None:
        """Let the agent end; its machines run on."""
        self.hide()
        if self._agent is not None:
            self._agent.close()
            self._agent = None

    def replace_agent(self, root: Path) -> None:
        """Let another agent, which knows nothing of this one's machines, answer at the same address with the same token."""
        self.stop()
        place = root / f"{self.name}-other"
        place.mkdir()
        (place / "token").write_text(self.token + "\n")
        (place / "token").chmod(0o600)
        self._settings = replace(self._settings, data_dir=place)
        self.start()


class Cloud:
    """A controller and its hosts; `controller` is the one that is open now."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.settings = Settings(data_dir=root / "controller", check_period_s=0.5, unreachable_after_s=3.0)
        self.hosts: list[FakeHost] = []
        self.fences: Sequence[Fence] | None = None
        self._controller: Controller | None = None

    @property
    def controller(self) -> Controller:
        if self._controller is None:
            put_controller_database(self.settings.data_dir)
            self._controller = open_controller(self.settings, fences=self.fences)
        return self._controller

    def reopen(self) -> Controller:
        """Let the controller end, and another take up its work."""
        self.close_controller()
        return self.controller

    def close_controller(self) -> None:
        if self._controller is not None:
            self._controller.close()
            self._controller = None

    def host(self, fake: Mapping[str, str] | None = None, mem: int = 4096, simulated: bool = True) -> FakeHost:
        """One more host, which is no node yet; its ports are those of this host only if it is not simulated."""
        made = FakeHost(self.root, f"n{len(self.hosts) + 1}", fake, mem, simulated)
        self.hosts.append(made)
        return made

    def join(self, host: FakeHost, **changes: object) -> Node:
        """Make a host a node, ready for machines."""
        node = self.controller.nodes.add(host.spec(**changes), host.token)
        operation = self.finished(node)
        assert operation.state is OperationState.DONE, operation
        return self.controller.nodes.get(host.name)

    def finished(self, node: Node | Machine) -> Operation:
        """The operation of a node or a machine, once it has ended."""
        assert node.operation is not None
        operation = self.controller.operations.wait_changed(node.operation, None, LIMIT_S)
        assert operation.state is not OperationState.RUNNING, operation
        return operation

    def add(self, **spec: object) -> Machine:
        """A machine that has settled."""
        machine = self.controller.machines.add(machine_spec(**spec))
        return self.settled(machine.id)

    def settled(self, machine_id: str) -> Machine:
        machine = self.controller.machines.wait_settled(machine_id, LIMIT_S)
        assert machine is not None
        assert machine.settled, machine
        return machine

    def gone(self, machine_id: str) -> None:
        """Wait until nothing is left of a machine."""
        eventually(f"{machine_id} gone", lambda: machine_id not in self.ids())

    def ids(self) -> list[str]:
        return [machine.id for machine in self.controller.machines.list()]

    def sound(self) -> None:
        """Nothing is amiss, once what is under way has come to an end."""
        eventually("a clean audit", lambda: self.controller.audit() == [], words=self.controller.audit)
        for host in self.hosts:
            if host._agent is not None:
                assert host.agent.audit() == []

    def close(self) -> None:
        try:
            self.close_controller()
        finally:
            for host in self.hosts:
                host.stop()


def is_written(cloud: Cloud, key: str) -> bool:
    """Whether the controller has something written down under that key."""
    database = Database(cloud.settings.database_url, cloud.settings.data_dir)
    try:
        with database.read() as connection:
            return bool(meta.get(connection, key))
    finally:
        database.close()


def node_is(cloud: Cloud, name: str, state: NodeState) -> Node:
    """The node, once it is in that state."""
    eventually(f"node {name} {state}", lambda: cloud.controller.nodes.get(name).state is state)
    return cloud.controller.nodes.get(name)


def machine_is(cloud: Cloud, machine_id: str, state: State) -> Machine:
    """The machine, once it is in that state."""
    eventually(f"machine {machine_id} {state}", lambda: cloud.controller.machines.get(machine_id).state is state)
    return cloud.controller.machines.get(machine_id)


def machine_spec(**values: object) -> MachineSpec:
    """A fake machine."""
    ports = tuple(PublishedPort(*port) for port in values.pop("ports", ()))  # type: ignore[attr-defined]
    return MachineSpec(**{"image": "any", "type": "fake", "mem": 16, "ports": ports, **values})  # type: ignore[arg-type]


def eventually(what: str, holds: Callable[[], object], words: Callable[[], object] = lambda: "") -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + LIMIT_S
    while not holds():
        assert time.monotonic() < deadline, f"still not: {what}: {words()}"
        threading.Event().wait(0.02)


@contextmanager
def cloud_at(root: Path) -> Iterator[Cloud]:
    """A cloud that is taken away afterwards."""
    cloud = Cloud(root)
    try:
        yield cloud
    finally:
        cloud.close()
