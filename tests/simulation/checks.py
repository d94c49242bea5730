"""What must hold in a simulated cloud: while it is in trouble, and once everything was mended and has settled."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.simulation.chaos import Chaos
from tests.simulation.cloud import Cloud
from tests.simulation.expectations import Expectations
from tests.simulation.hosts import SimHost
from tests.simulation.nodes import Node
from tests.simulation.paces import Pace
from tests.simulation.user import Owned, User

from garbi.hyper.agent import Agent
from garbi.hyper.drivers.fake.machine import FakeMachine
from garbi.hyper_api.vocabulary import State, Wish
from garbi.iaas.controller import Controller
from garbi.iaas.model.event import Event, Subject
from garbi.iaas.model.machine import Machine
from garbi.iaas.model.node import NodeState
from garbi.iaas.model.operation import OperationState
from garbi.iaas.monitor.failover import LOST, RECENTLY_S
from garbi.iaas.store.events import CONTROLLER, Kind

RESTARTS_S = 1200.0
"""How long machines may be started again until they are given up, and orders be repeated that found nobody."""


def settled_s(pace: Pace) -> float:
    """How long a cloud of which everything was mended may take until nothing is on its way, and what is to run runs."""
    return RESTARTS_S + 8 * pace.unreachable_s + 2 * pace.ttl_s + pace.resync_s


SURE_S = 120.0
"""A fence that began before others fell silent may end so much later."""


@dataclass(eq=False)
class Checks(logging.Handler):
    """The checks of one run."""

    cloud: Cloud
    user: User
    chaos: Chaos
    grace_s: float
    moves: int = 0
    silent: dict[str, tuple[NodeState, float]] = field(default_factory=dict)
    """The nodes that seem dead, and since when they are in that state."""
    quiet: dict[str, float] = field(default_factory=dict)
    """Since when they are silent."""

    def __post_init__(self) -> None:
        super().__init__(logging.WARNING)
        self.cloud.worlds.on_end = self._on_end
        self.cloud.worlds.on_start = self._on_start
        self.cloud.on_controller = self.follow

    def emit(self, record: logging.LogRecord) -> None:
        """Take every log line of the product; one with an exception is a bug of ours."""
        words = record.getMessage()
        self.cloud.kernel.note(f"log: {words} {getattr(record, 'detail', '')}")
        if record.exc_info:
            trace = logging.Formatter().formatException(record.exc_info)
            self.cloud.kernel.violate(f"log: {words}\n{trace[-3000:]}")

    # While it goes on

    def follow(self, controller: Controller) -> None:
        """Hear what a controller writes down."""
        controller.events.subscribe(self._hear)

    def _hear(self, event: Event) -> None:
        self.cloud.kernel.note(
            f"event: {event.subject} {event.id[:8]} {event.kind} {event.state} {event.actor} {event.reason}"
        )
        if event.subject is Subject.NODE and event.kind == Kind.STATE:
            self._note_node(event)
        owned = self.user.machines.get(event.id)
        if owned is not None and event.kind == Kind.STATE and event.state == State.STOPPED:
            owned.rests = owned.wish is Wish.STOPPED and not event.reason.startswith(LOST)
        if (
            owned is not None and event.kind == Kind.WISH and event.actor == CONTROLLER
        ):  # a drain stops what cannot move
            owned.wish = Wish(event.reason)
            owned.rests = owned.rests and owned.wish is Wish.STOPPED  # an undrain starts it again
        if event.subject is Subject.MACHINE and event.kind == Kind.MOVED:
            self.moves += 1
            source = event.reason.removeprefix("from ").partition(" ")[0]
            node = self.cloud.nodes.get(source)
            if node is not None:
                self._check_move(event.id, node)

    def _note_node(self, event: Event) -> None:
        """When much seems dead at once, no fence is run."""
        now = self.cloud.kernel.now
        if event.state == NodeState.UNAVAILABLE and event.actor.startswith("fence:"):
            dead = [name for name in self.silent if name != event.id and self._seems_dead(name, now)]
            count = len(dead) + (not self._fell_long_ago(event.id, now))
            if dead and count >= 2 and (3 * count >= len(self.cloud.nodes) or count >= 3):
                self.cloud.kernel.violate(f"node {event.id} was fenced while {', '.join(dead)} seem dead, too")
        if event.state in (NodeState.UNREACHABLE, NodeState.UNAVAILABLE):
            self.silent[event.id] = NodeState(event.state), now
            self.quiet.setdefault(event.id, now)
        else:
            self.silent.pop(event.id, None)
            self.quiet.pop(event.id, None)

    def _seems_dead(self, name: str, now: float) -> bool:
        """Whether a node counts among those that seem dead at once, in anybody's eyes."""
        state, since = self.silent[name]
        if now - since <= SURE_S:
            return False
        if state is NodeState.UNAVAILABLE or now - self.quiet[name] < RECENTLY_S - SURE_S:
            return now - since < RECENTLY_S - SURE_S
        others = [self.quiet[each] for each, (kind, _) in self.silent.items() if each != name and kind is state]
        return any(abs(each - self.quiet[name]) < RECENTLY_S - SURE_S for each in others)

    def _fell_long_ago(self, name: str, now: float) -> bool:
        """Whether a node fell silent long ago, and none of those that are silent now at about the same time."""
        quiet, long_s = self.quiet.get(name, now), RECENTLY_S - SURE_S
        others = [each for each in self.silent if each != name]
        return now - quiet >= long_s and all(abs(self.quiet[each] - quiet) >= long_s for each in others)

    def _check_move(self, machine_id: str, node: Node) -> None:
        """Nothing is moved that may still run: a proof that proves too little is none."""
        host = node.host
        if not host.on or host.frozen or host.waking:
            return
        found = self.cloud.worlds.find(host, machine_id)
        if found is not None and found.powered:
            self.cloud.kernel.violate(f"machine {machine_id} was moved away from {node.name} where it runs")

    def _on_start(self, host: SimHost, machine: FakeMachine) -> None:
        """A machine was started: what was stopped, as its user wished, stays so."""
        owned = self.user.machines.get(machine.id)
        if owned is not None and owned.rests:
            self.cloud.kernel.violate(f"I11 machine {machine.id} was stopped for good, and started on {host.name}")

    def _on_end(self, host: SimHost, machine: FakeMachine) -> None:
        """A machine ended: somebody must have wanted it, or its host must have been in trouble."""
        if not host.on or self.chaos.is_troubled(host.name, self.grace_s):
            return
        if self._is_alone():
            return
        owned = self.user.machines.get(machine.id)
        if owned is not None and owned.wish is not Wish.RUNNING:
            return
        drained = self.cloud.worlds.drained.get(host.name)
        if drained is not None and self.cloud.kernel.now - drained < 2 * 3600:
            return
        asked = owned.asked_at if owned is not None else self.cloud.kernel.now
        if self.cloud.kernel.now - asked < 120:  # wished one thing, then another
            return
        self.cloud.kernel.violate(f"machine {machine.id} ended on {host.name} for no reason")

    def _is_alone(self) -> bool:
        """Whether so many hosts are in trouble that one without any cannot tell whether it is cut off itself."""
        calm = [name for name in self.cloud.nodes if not self.chaos.is_troubled(name, self.grace_s)]
        return len(calm) < len(self.cloud.nodes) // 2 + 1

    # Once it is over

    def settled(self) -> str:
        """What is still on its way; empty when nothing is. In a task."""
        controller, agents = self.cloud.controller, self._agents()
        if controller is None or len(agents) < len(self.cloud.nodes):
            return "not all services run"
        busy = [node.name for node in controller.nodes.list() if node.state is not NodeState.READY]
        if busy:
            return f"nodes {', '.join(busy)} are not ready"
        on_the_way = [each.id for each in controller.machines.list() if not each.settled or each.state is State.UNKNOWN]
        if on_the_way:
            return f"machines {', '.join(on_the_way)} are on their way"
        running = [each.id for each in controller.operations.list() if each.state is OperationState.RUNNING]
        if running:
            return f"operations {', '.join(running)} run"
        for agent in agents:
            late = [each.id for each in agent.machines.list() if not each.settled]
            if late:
                return f"machines {', '.join(late)} are on their way on {agent.settings.node_name}"
        return "; ".join(self._unmet(controller))

    def final(self) -> None:
        """Check everything that is to hold when nothing is on its way. In a task."""
        controller = self.cloud.controller
        assert controller is not None
        for violation in controller.audit():
            self._violate(f"audit of the controller: {violation}")
        for agent in self._agents():
            for found in agent.audit():
                self._violate(f"audit of {agent.settings.node_name}: {found}")
        for words in self._unmet(controller):
            self._violate(words)

    def _unmet(self, controller: Controller) -> Iterator[str]:
        """What is not as it must be in the end."""
        rows = {each.id: each for each in controller.machines.list()}
        expected = Expectations(self.cloud, controller)
        yield from self._compare(rows, expected)
        yield from expected.sums()

    def _compare(self, rows: dict[str, Machine], expected: Expectations) -> Iterator[str]:
        for owned in self.user.machines.values():
            row = rows.pop(owned.id, None)
            if owned.gone:
                if row is not None:
                    yield f"I8 machine {owned.id} was removed, and is {row.state}"
                yield from self._nowhere(owned)
            elif row is None:
                yield f"I4 machine {owned.id} was promised, and is gone"
            else:
                yield from expected.of(owned, row)
        for row in rows.values():
            yield f"I9 machine {row.id} is there, and nobody was promised it"
        for node in self.cloud.nodes.values():
            for machine in self.cloud.worlds.of(node.host):
                if machine.id not in self.user.machines:
                    yield f"I5 machine {machine.id} is on {node.name}, and nobody was promised it"

    def _nowhere(self, owned: Owned) -> Iterator[str]:
        for node in self.cloud.nodes.values():
            if self.cloud.worlds.find(node.host, owned.id) is not None:
                yield f"I8 machine {owned.id} was removed, and is still on {node.name}"

    def _agents(self) -> list[Agent]:
        return [node.agent for node in self.cloud.nodes.values() if node.agent is not None]

    def _violate(self, words: str) -> None:
        self.cloud.kernel.violate(words)
