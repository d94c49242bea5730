"""What goes wrong in a simulated cloud: one fault after the other, some at once, each with an end; the seed chooses."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.simulation.cloud import Cloud
from tests.simulation.history import Blow
from tests.simulation.kernel import Process
from tests.simulation.mishaps import Mishaps
from tests.simulation.network import Weather
from tests.simulation.nodes import CONTROLLER_BACK_S, Node
from tests.simulation.paces import BRISK

from garbi.hyper.drivers.fake.machine import FakeMachine

MINUTE = 60.0
HOUR = 3600.0


@dataclass
class Chaos:
    """Faults on average every `gap_s` seconds, of the kinds in `kinds` (all of them when there are none)."""

    cloud: Cloud
    gap_s: float
    kinds: tuple[str, ...] = ()
    mishaps: tuple[str, ...] = ()
    """Kinds beside those of every run, by their names in `mishaps`."""
    on_pauses: Callable[[], None] = lambda: None
    ending: bool = False
    done: int = 0
    troubled: dict[str, float] = field(default_factory=dict)
    """Until when each host may have suffered from something that we did to it or to its network."""

    def __post_init__(self) -> None:
        self.dice = random.Random(f"chaos-{self.cloud.seed}")
        self._kill_at: dict[Process, tuple[int, Callable[[], None]]] = {}
        self.cloud.kernel.on_reach = self._on_reach
        self._undo: dict[Callable[[], object], None] = {}
        self._all: dict[str, tuple[int, Callable[[], None]]] = {
            "agent-killed": (4, self._kill_agent),
            "agent-killed-at-a-step": (4, self._kill_agent_at_step),
            "watchdog-killed": (1, lambda: self.cloud.kill_watchdog(self.node())),
            "ways-in": (3, self._ways_in),
            "controller-killed": (3, self._kill_controller),
            "controller-killed-at-a-step": (4, self._kill_controller_at_step),
            "controller-away": (1, self._controller_away),
            "power-cut": (4, self._cut_power),
            "freeze": (3, self._freeze),
            "cut-both": (3, lambda: self._cut(both=True)),
            "cut-one-way": (3, lambda: self._cut(both=False)),
            "bad-network": (4, self._bad_network),
            "clock-set": (2, self._set_clock),
            "machine-dies": (3, self._machine_dies),
            "daemon-away": (2, self._daemon_away),
            "many-away": (1, self._many_away),
            "drain": (1, self._drain),
        }
        self._regular = tuple(self._all)
        self.more = Mishaps(self)
        self._all |= self.more.kinds()

    def start(self) -> None:
        """Begin."""
        self.cloud.nature.spawn("chaos", self._rage)

    def is_troubled(self, name: str, grace_s: float) -> bool:
        """Whether a host has suffered within the last `grace_s` seconds."""
        return self.cloud.kernel.now < self.troubled.get(name, float("-inf")) + grace_s

    def heal(self) -> None:
        """Undo what lasts: power, ice, cuts, weather, daemons, services. In a task."""
        self.ending = True
        self._kill_at.clear()
        cloud = self.cloud
        cloud.mended = True
        self.more.heal()
        cloud.network.cut.clear()
        cloud.network.weather.clear()
        for node in cloud.nodes.values():
            if node.host.frozen:
                self._thaw(node)
            cloud.boot_host(node)
            if node.cluster_id:
                node.world.make_available()
            cloud.start_agent(node)
            cloud.start_watchdog(node)
        cloud.start_controller()
        for work in [*self._undo]:
            cloud.nature.spawn("undo", work)
        self._undo.clear()

    def _rage(self) -> None:
        while not self.ending:
            self.cloud.kernel.sleep(self.dice.expovariate(1 / self.gap_s))
            if not self.ending:
                self._strike()

    def _strike(self) -> None:
        kinds = self.kinds or (*self._regular, *self.mishaps)
        kind = self.dice.choices(kinds, [self._all[each][0] for each in kinds])[0]
        self.cloud.kernel.note(f"chaos: {kind}")
        self.done += 1
        self._all[kind][1]()

    def node(self) -> Node:
        """A node, whichever."""
        return self.cloud.nodes[self.dice.choice([*self.cloud.nodes])]

    def how_long(self, mean_s: float) -> float:
        """Seconds, in proportion to the periods of the run: a cut that nobody notices breaks nothing."""
        mean_s *= self.cloud.pace.unreachable_s / BRISK.unreachable_s
        return min(self.dice.expovariate(1 / mean_s), 6 * mean_s)

    def later(self, seconds: float, work: Callable[[], object]) -> None:
        """Undo something in a task of its own: after so many seconds, or when everything is mended."""
        self._undo[work] = None

        def undo() -> None:
            if work in self._undo:
                del self._undo[work]
                self.cloud.nature.spawn("undo", work)

        self.cloud.kernel.after(seconds, undo)

    def trouble(self, node: Node, seconds: float) -> None:
        """A node may suffer for so long from something that we did to it."""
        until = self.cloud.kernel.now + seconds
        self.troubled[node.name] = max(self.troubled.get(node.name, 0.0), until)
        self.cloud.kernel.note(f"chaos: {node.name} for {seconds:.1f} s")

    # Processes

    def _kill_agent(self) -> None:
        self._agent_ends(self.node())

    def _kill_agent_at_step(self) -> None:
        node = self.node()
        if node.process is not None and node.process.alive:
            self._kill_at[node.process] = (self.dice.randrange(1, 40), lambda: self._agent_ends(node))

    def _agent_ends(self, node: Node) -> None:
        self.cloud.agent_ended(node)
        self.cloud.kill_agent(node)

    def _kill_controller(self) -> None:
        low, high = CONTROLLER_BACK_S
        self._controller_ends(low + self.dice.random() * (high - low))

    def _kill_controller_at_step(self) -> None:
        process = self.cloud.controller_process
        if process is not None and process.alive:
            self._kill_at[process] = (self.dice.randrange(1, 60), self._kill_controller)

    def _controller_away(self) -> None:
        self._controller_ends(self.how_long(40 * MINUTE))

    def _controller_ends(self, away_s: float) -> None:
        self.cloud.kernel.after(away_s, self.cloud.start_controller)
        self.cloud.kill_controller()

    def _on_reach(self, name: str) -> None:
        if not self._kill_at:
            return
        current = self.cloud.kernel.current
        assert current is not None
        armed = self._kill_at.get(current.process)
        if armed is None:
            return
        left, kill = armed
        if left > 1:
            self._kill_at[current.process] = (left - 1, kill)
            return
        del self._kill_at[current.process]
        self.cloud.kernel.note(f"chaos: {current.process.name} dies at {name}")
        kill()

    # Hosts

    def _cut_power(self) -> None:
        node = self.node()
        if not node.host.on:
            return
        away_s = self.how_long(15 * MINUTE)
        self.trouble(node, away_s)
        self.cloud.kill_host(node)
        self.later(away_s, lambda: self.cloud.boot_host(node))

    def _freeze(self) -> None:
        node = self.node()
        if not node.host.on or node.host.frozen:
            return
        still_s = self.how_long(6 * MINUTE)
        self.trouble(node, still_s)
        node.host.freeze()
        self.later(still_s, lambda: self._thaw(node))

    def _thaw(self, node: Node) -> None:
        if node.host.frozen:
            node.host.thaw(slept=self.dice.random() < 0.5)

    def _set_clock(self) -> None:
        host = self.dice.choice([self.cloud.home, *(node.host for node in self.cloud.nodes.values())])
        host.clock.wall_offset_s += self.dice.uniform(-2, 2) * HOUR * 24
        self.cloud.kernel.note(f"chaos: the clock of {host.name} is set")

    def _ways_in(self) -> None:
        """SSH or the power program of a host behaves otherwise from now on."""
        node, dice = self.node(), self.dice
        self.cloud.ways.ssh[node.name] = dice.choice(("good", "fails", "hangs"))
        self.cloud.ways.power[node.name] = dice.choice(("good", "slow", "fails", "hangs"))

    # The network

    def _cut(self, *, both: bool) -> None:
        node, home = self.node(), self.cloud.home.name
        ways = [(home, node.name), (node.name, home)]
        chosen = ways if both else [self.dice.choice(ways)]
        lasts_s = self.how_long(10 * MINUTE)
        self.trouble(node, lasts_s)
        self.cloud.network.cut.update(chosen)
        self.later(lasts_s, lambda: self.cloud.network.cut.difference_update(chosen))

    def _bad_network(self) -> None:
        node, home, dice = self.node(), self.cloud.home.name, self.dice
        lasts_s = self.how_long(20 * MINUTE)
        self.trouble(node, lasts_s)
        for way in ((home, node.name), (node.name, home)):
            self.cloud.network.weather[way] = Weather(dice.random() * 0.3, dice.random() * 0.3, dice.random() * 0.5)
        ways = ((home, node.name), (node.name, home))
        self.later(lasts_s, lambda: [self.cloud.network.weather.pop(way, None) for way in ways])

    # Machines and daemons

    def _machine_dies(self) -> None:
        node = self.node()
        if not node.host.on or node.host.frozen or not node.cluster_id:
            return
        running = self.cloud.worlds.running(node.host)
        if running:
            self._end(node, self.dice.choice(running), orderly=self.dice.random() < 0.3)

    def _end(self, node: Node, machine: FakeMachine, *, orderly: bool) -> None:
        self.cloud.worlds.expect_end(machine.id)
        self.cloud.worlds.history.note(machine.id, node.name, Blow.ENDED if orderly else Blow.KILLED)
        if orderly:
            node.world.end(machine.id)
        else:
            node.world.kill(machine.id)

    def _daemon_away(self) -> None:
        node = self.node()
        if node.cluster_id:
            node.world.make_unavailable()
            self.later(self.how_long(3 * MINUTE), node.world.make_available)

    # All at once

    def _many_away(self) -> None:
        """The controller's own network is gone, or a rack loses its power."""
        nodes = [*self.cloud.nodes.values()]
        lasts_s = self.how_long(15 * MINUTE)
        if self.dice.random() < 0.5:
            ways = [(self.cloud.home.name, node.name) for node in nodes]
            for node in nodes:
                self.trouble(node, lasts_s)
            self.cloud.network.cut.update(ways)
            self.later(lasts_s, lambda: self.cloud.network.cut.difference_update(ways))
            return
        for node in nodes[: max(len(nodes) // 2, 2)]:
            if node.host.on:
                self.trouble(node, lasts_s)
                self.cloud.kill_host(node)
                self.later(lasts_s, lambda node=node: self.cloud.boot_host(node))  # type: ignore[misc]

    def _drain(self) -> None:
        self.drain(self.node(), self.how_long(20 * MINUTE))

    def drain(self, node: Node, lasts_s: float) -> None:
        """Have a node drained, and undrained after a while."""
        self.cloud.worlds.expect_drain(node.host)
        self.cloud.try_to_ask(lambda controller: controller.nodes.drain(node.name))
        self.later(lasts_s, lambda: self._undrain(node))

    def _undrain(self, node: Node) -> None:
        for _ in range(200):
            if self.cloud.try_to_ask(lambda controller: controller.nodes.undrain(node.name)):
                return
            self.cloud.kernel.sleep(30)
