"""The hosts of a simulated cloud with the real agents and watchdogs on them: started, killed and started again."""

from __future__ import annotations

import json
import random
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from tests.simulation import serving
from tests.simulation.databases import put_databases
from tests.simulation.disks import MEMORY, lose_promises
from tests.simulation.fencing import OPERATOR_S, SOON_S, answer_of, wait_for
from tests.simulation.hosts import SimHost
from tests.simulation.kernel import Kernel, Process, begin
from tests.simulation.network import Network, Service, SimTransport
from tests.simulation.paces import Pace
from tests.simulation.threads import Event, present_process
from tests.simulation.worlds import Worlds

from garbi.base.child import Ended
from garbi.base.documents import document_of
from garbi.base.errors import GarbiError
from garbi.base.http import Request
from garbi.hyper.agent import Agent
from garbi.hyper.drivers.fake import FakeWorld
from garbi.hyper.main import open_agent
from garbi.hyper.rest.app import create_app
from garbi.hyper.settings import Settings as AgentSettings
from garbi.hyper.watchdog.opening import open_fence, open_watchdog
from garbi.hyper_api import events
from garbi.iaas.settings import DATABASE

T = TypeVar("T")

AGENT_BACK_S = (1.0, 5.0)
CONTROLLER_BACK_S = (1.0, 20.0)
"""How long it takes until what ended is started again, as systemd does."""

PORT = 8081

WITNESS_S = 2.0
"""How long a host waits for what others say."""


@dataclass
class Node:
    """A host and the agent on it."""

    host: SimHost
    settings: AgentSettings
    worlds: Worlds
    process: Process | None = None
    watchdog: Process | None = None
    agent: Agent | None = None
    wanted: bool = True

    @property
    def name(self) -> str:
        return self.host.name

    @property
    def world(self) -> FakeWorld:
        return FakeWorld(self.worlds.daemon(self.host))

    cluster_id: str = ""
    token: str = ""
    spoiled: bool = False
    """Whether its agent's database was lost, emptied or put back, and nobody has seen to it yet."""
    adopting: bool = False
    """Whether the agent is told to take up what it finds when it begins next."""
    lent: bool = False
    """Whether the host has a copy of another's data directory in place of its own."""


@dataclass
class Hosts:
    """The hosts of a run, and what runs on them beside machines."""

    seed: int
    root: Path
    size: int = 4
    pace: Pace = field(default_factory=Pace)
    preempt: float = 0.05
    ways_in: bool = True

    def __post_init__(self) -> None:
        self.kernel = Kernel(self.seed, self.preempt)
        begin(self.kernel)
        self.dice = random.Random(f"cloud-{self.seed}")
        self.mended = False
        """Whether nothing breaks any more, and people are there who put everything in order."""
        self.network = Network(self.kernel, random.Random(f"network-{self.seed}"))
        self.worlds = Worlds(self.kernel)
        self.home = self._host("home", "10.0.0.100")
        self.nature = Process(self.kernel, "nature")
        self.nodes = {name: self._node(name, number) for number, name in enumerate(self._names())}
        put_databases(self.root / "controller" / DATABASE, [node.settings.data_dir for node in self.nodes.values()])

    def _names(self) -> list[str]:
        return [f"n{number}" for number in range(1, self.size + 1)]

    def _host(self, name: str, address: str) -> SimHost:
        host = SimHost(self.kernel, name, address)
        self.network.machines[name] = host
        return host

    def _node(self, name: str, number: int) -> Node:
        address = f"10.0.0.{number + 1}"
        host = self._host(name, address)
        self.network.hosts[f"{address}:{PORT}"] = name
        settings = AgentSettings(
            data_dir=self.root / name,
            run_dir=self.root / MEMORY,
            node_name=name,
            drivers={"fake": {"stop_delay_s": "3"}},
            mem_limit_mib=4096,
            stop_deadline_s=10.0,
            resync_period_s=self.pace.resync_s,
            audit_period_s=self.pace.audit_s,
            workers=2,
        )
        return Node(host, settings, self.worlds)

    # Agents

    def start_agent(self, node: Node) -> None:
        """Start the agent of a host that is on; nothing happens when it runs."""
        if not node.host.on or (node.process is not None and node.process.alive):
            return
        node.process = node.host.process("agent")
        node.process.spawn("main", lambda: self._open_agent(node))

    def kill_agent(self, node: Node) -> None:
        """End the agent's process; machines run on."""
        if node.process is not None:
            node.process.kill()
            node.agent = None

    def agent_ended(self, node: Node) -> None:
        """Have the agent started again, soon."""
        low, high = AGENT_BACK_S
        self.kernel.after(low + self.dice.random() * (high - low), lambda: self.start_agent(node))

    def _open_agent(self, node: Node) -> None:
        process = node.process
        assert process is not None
        try:
            agent = open_agent(
                node.settings, clock=node.host.clock, simulated=True, ask=self.asker(node), adopt=node.adopting
            )
        except GarbiError as error:
            self.kernel.note(f"{node.name}: the agent does not begin: {error.detail}")
            self._refused(node)
            process.kill()
        node.spoiled = node.adopting = False
        self._serve(node, process, agent)

    def _refused(self, node: Node) -> None:
        """It is tried again soon, as systemd does; an operator reads why it was refused after a while, and says `--adopt`."""
        self.agent_ended(node)
        if node.spoiled and not node.adopting:
            delay_s = self.dice.expovariate(1 / (SOON_S if self.mended else OPERATOR_S / 3))

            def adopt() -> None:
                node.adopting = node.spoiled

            self.kernel.after(delay_s, adopt)

    def _serve(self, node: Node, process: Process, agent: Agent) -> None:
        node.agent = agent
        if not node.cluster_id:
            node.cluster_id, node.token = agent.cluster_id, agent.secret
        app = create_app(agent)
        port = PORT

        def serve(request: Request) -> serving.Reply:
            return serving.answer(app, request, node.host.address, port)

        def open_stream(request: Request, push: Callable[[bytes], None]) -> Callable[[], None]:
            return _follow(agent, request, push)

        self.network.services[f"{node.host.address}:{port}"] = Service(process, serve, open_stream)
        self.kernel.note(f"{node.name}: the agent answers")

    def asker(self, node: Node) -> Callable[[str, str, Sequence[str]], Mapping[str, float]]:
        """How what runs on a host asks other hosts when they last heard the controller."""

        def ask(controller: str, key: str, peers: Sequence[str]) -> dict[str, float]:
            said: dict[str, float] = {}
            present, left = self.kernel, [len(peers)]
            ticket = present.ticket()
            for peer in peers:

                def one(peer: str = peer) -> None:
                    age_s = self._witness(node, peer, controller, key)
                    if age_s is not None:
                        said[peer] = age_s
                    left[0] -= 1
                    if left[0] == 0:
                        present.wake(*ticket)

                present_process().spawn(f"ask-{peer}", one)
            present.block(WITNESS_S)
            return dict(said)

        return ask

    def _witness(self, node: Node, peer: str, controller: str, key: str) -> float | None:
        request = Request(
            "GET", f"/hyper/leases/{controller}/witness", {"Authorization": f"Bearer {key}"}, timeout_s=WITNESS_S
        )
        try:
            answer = SimTransport(self.network, node.name, f"http://{peer}").send(request)
        except GarbiError:
            return None
        return float(json.loads(answer.read())["age_s"]) if answer.status == 200 else None

    def start_watchdog(self, node: Node) -> None:
        """Start the watchdog of a host that is on, as soon as an agent has worked there; nothing happens when it runs."""
        if not node.host.on or (node.watchdog is not None and node.watchdog.alive):
            return
        if not node.cluster_id:
            self.kernel.after(1.0, lambda: self.start_watchdog(node))
            return
        node.watchdog = node.host.process("watchdog")
        node.watchdog.spawn("main", lambda: self._guard(node))

    def kill_watchdog(self, node: Node) -> None:
        """End the watchdog's process; it is started again soon."""
        if node.watchdog is not None:
            node.watchdog.kill()
            self.kernel.after(1.0 + self.dice.random(), lambda: self.start_watchdog(node))

    def _guard(self, node: Node) -> None:
        """What `Watchdog.run` does, with a note of when it has looked."""
        watchdog = open_watchdog(node.settings, node.host.clock, simulated=True, ask=self.asker(node))
        while True:
            began = self.kernel.now
            watchdog.tick()
            if began >= node.host.thawed_at:
                self.worlds.has_looked(node.host)
            self.kernel.sleep(self.pace.lease_look_s)

    # Hosts

    def kill_host(self, node: Node) -> None:
        """Cut the power of a host: its agent and its machines end."""
        node.host.cut_power()
        node.agent = None
        lose_promises(node.host, self.dice)
        shutil.rmtree(node.settings.runtime, ignore_errors=True)
        self.worlds.power_off(node.host)

    def boot_host(self, node: Node) -> None:
        """Give it power again: a new boot, then its services."""
        if not node.host.on:
            node.host.boot_up()
            self.agent_ended(node)
            self.kernel.after(self.dice.random() * 2, lambda: self.start_watchdog(node))

    def run_fence(
        self, node: Node, controller_id: str, number: int, limit_s: float, cancelled: threading.Event
    ) -> Ended | None:
        """Run `hyper fence` on a host; None when its host did not live to say anything."""
        done = Event()
        said: list[Ended] = []

        def work() -> None:
            try:
                report = open_fence(node.settings, node.host.clock, simulated=True).fence(controller_id, number)
            except GarbiError as error:
                said.append(Ended(1, "", error.detail))
            else:
                runs = node.process is not None and node.process.alive
                self.start_agent(node)
                document = json.dumps(report.to_document())
                said.append(answer_of(1 if report.running else 0, document, "runs" if runs else "started"))
            done.set()

        process = node.host.process("fence")
        process.at_death["answer"] = done.set
        process.spawn("main", work)
        wait_for(done, limit_s, cancelled)
        return said[0] if said else None


def _follow(agent: Agent, request: Request, push: Callable[[bytes], None]) -> Callable[[], None]:
    """Send every event of an agent on, from the one that was seen last on."""
    newest = agent.events.last_seq()
    after = request.headers.get("Last-Event-ID")
    seq = newest if after is None else min(int(after), newest)
    push(f": events after {seq}\n\n".encode())
    for event in agent.events.since(seq, 200):
        push(_block(event))
    return agent.events.subscribe(lambda event: push(_block(event)))


def _block(event: Any) -> bytes:
    return f"id: {event.seq}\ndata: {json.dumps(document_of(events.Event, event))}\n\n".encode()
