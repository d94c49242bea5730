"""Faults of engines, databases and ways between hosts: kinds that a run has only where its plan names them (`Plan.mishaps`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from tests.simulation.nodes import AGENT_BACK_S, PORT, Node
from tests.simulation.recovery import Recovery

from garbi.base.errors import NotFound
from garbi.iaas.controller import Controller
from garbi.iaas.model.node import NodeSpec, NodeState

if TYPE_CHECKING:
    from tests.simulation.chaos import Chaos

MINUTE = 60.0
STEPS = ("prepare", "add", "start", "stop", "kill", "pause", "remove")
STEPS_FOR_GOOD = ("add", "start", "stop", "pause")
"""What may be refused to a machine for good: what cannot be killed or removed is there for ever, and no cloud can help that."""

RATE = 1.2
"""How much faster or slower than the controller's the clock of a host may go."""

REFUSAL = "driver-failed"


class Mishaps:
    """The kinds, by name, with their weights: `kinds` is what a chaos chooses from."""

    def __init__(self, chaos: Chaos) -> None:
        self._chaos = chaos
        self._cloud = chaos.cloud
        self._dice = chaos.dice
        self.recovery = Recovery(chaos.cloud)
        if chaos.mishaps:
            self.recovery.start()

    def kinds(self) -> Mapping[str, tuple[int, Callable[[], None]]]:
        """Every kind."""
        return {
            "step-fails-once": (4, lambda: self._step_fails(1)),
            "step-fails-for-a-while": (3, self._step_fails_for_a_while),
            "step-fails-for-good": (1, self._step_fails_for_good),
            "slow-steps": (2, lambda: self._slow_steps(self._chaos.node())),
            "drain-and-undrain": (3, self._drain_and_undrain),
            "cut-between-nodes": (3, self._cut_between_nodes),
            "agent-away": (2, self._agent_away),
            "database-lost": (1, lambda: self._spoil("lost")),
            "database-emptied": (1, lambda: self._spoil("emptied")),
            "database-older": (1, lambda: self._spoil("older")),
            "data-dir-cloned": (1, self._clone),
            "disk-slow": (1, lambda: self._disk("slow", 20 * MINUTE)),
            "disk-full": (1, lambda: self._disk("full", 20 * MINUTE)),
            "disk-read-only": (1, lambda: self._disk("read-only", 10 * MINUTE)),
            "disk-failing": (1, lambda: self._disk("failing", 10 * MINUTE)),
            "starved": (2, self._starve),
            "clock-rate": (1, self._set_rate),
            "pause-wished": (1, self._pause),
            "node-removed": (1, self._remove_node),
        }

    def heal(self) -> None:
        """Undo what lasts, but for the steps that fail for good. In a task."""
        for node in self._cloud.nodes.values():
            for verb in STEPS:
                node.world.fail_next(verb, REFUSAL, times=0)
            node.host.slow.clear()
            node.host.mend_disk()
            node.host.starved_s = 0.0
            self.recovery.give_back(node)
        self._cloud.network.cut.clear()

    # Steps

    def _step_fails(self, times: int) -> None:
        node = self._chaos.node()
        node.world.fail_next(self._dice.choice(STEPS), REFUSAL, times=times)

    def _step_fails_for_a_while(self) -> None:
        node, verb = self._chaos.node(), self._dice.choice(STEPS)
        node.world.fail_next(verb, REFUSAL, times=None)
        lasts_s = self._chaos.how_long(3 * MINUTE)
        self._chaos.later(lasts_s, lambda: node.world.fail_next(verb, REFUSAL, times=0))

    def _step_fails_for_good(self) -> None:
        node, verb = self._chaos.node(), self._dice.choice(STEPS_FOR_GOOD)
        there = self._cloud.worlds.of(node.host)
        if there:
            machine = self._dice.choice(there)
            node.world.fail_next(verb, REFUSAL, machine_id=machine.id, times=None)
            self._cloud.kernel.note(f"chaos: {node.name} will never {verb} {machine.id[:8]}")

    def _slow_steps(self, node: Node) -> None:
        verb = self._dice.choice(("remove", "remove", "prepare", "add", "start"))
        node.host.slow[verb] = self._chaos.how_long(40.0)
        self._chaos.later(self._chaos.how_long(20 * MINUTE), lambda: node.host.slow.pop(verb, None))

    def _drain_and_undrain(self) -> None:
        """Somebody changes his mind while machines are still being moved, which on this host takes its time."""
        node, dice = self._chaos.node(), self._dice
        if dice.random() < 0.7:
            node.host.slow["remove"] = self._chaos.how_long(30.0)
            self._chaos.later(self._chaos.how_long(10 * MINUTE), lambda: node.host.slow.pop("remove", None))
        self._chaos.drain(node, dice.expovariate(1 / 20.0))

    # Hosts

    def _disk(self, how: str, mean_s: float) -> None:
        node, lasts_s = self._chaos.node(), self._chaos.how_long(mean_s)
        self._chaos.trouble(node, lasts_s)
        node.host.mend_disk()
        node.host.disk = how
        self._cloud.kernel.note(f"chaos: the disk of {node.name} is {how}")
        self._chaos.later(lasts_s, node.host.mend_disk)

    def _starve(self) -> None:
        node, lasts_s = self._chaos.node(), self._chaos.how_long(10 * MINUTE)
        self._chaos.trouble(node, lasts_s)
        node.host.starved_s = self._chaos.how_long(0.5)

        def feed() -> None:
            node.host.starved_s = 0.0

        self._chaos.later(lasts_s, feed)

    def _set_rate(self) -> None:
        """From its next boot on, for one that changes while it goes is a jump: the clock of a host goes faster or slower."""
        node = self._chaos.node()
        if not node.host.on:
            return
        self._chaos.trouble(node, 5 * MINUTE)
        self._cloud.kill_host(node)
        node.host.clock.rate = self._dice.uniform(1 / RATE, RATE)
        self._cloud.kernel.note(f"chaos: the clock of {node.name} goes at {node.host.clock.rate:.3f}")
        self._chaos.later(self._dice.uniform(10.0, 60.0), lambda: self._cloud.boot_host(node))

    # Wishes

    def _pause(self) -> None:
        """Users pause machines from now on, now and then."""
        self._chaos.on_pauses()

    def _remove_node(self) -> None:
        """A node is emptied and removed; its host comes back as a node of the same name later."""
        node = self._chaos.node()
        self._cloud.worlds.expect_drain(node.host)
        lasts_s = self._chaos.how_long(20 * MINUTE)
        self._chaos.later(lasts_s, lambda: self._add_again(node))
        ask = self._cloud.try_to_ask
        ask(lambda controller: controller.nodes.drain(node.name))
        for _ in range(20):
            self._cloud.kernel.sleep(15.0)
            if ask(lambda controller: controller.nodes.remove(node.name)):
                return

    def _add_again(self, node: Node) -> None:
        spec = NodeSpec(node.name, node.host.address, PORT, provision=False)
        ask = self._cloud.try_to_ask
        for _ in range(200):
            if ask(lambda controller: self._is_ready(controller, node.name)):
                return
            if not ask(lambda controller: controller.nodes.undrain(node.name)):
                ask(lambda controller: controller.nodes.add(spec, node.token))
            self._cloud.kernel.sleep(30.0)

    @staticmethod
    def _is_ready(controller: Controller, name: str) -> None:
        if controller.nodes.get(name).state is not NodeState.READY:
            raise NotFound("not yet")

    # The network

    def _cut_between_nodes(self) -> None:
        names = [*self._cloud.nodes]
        one, other = self._dice.sample(names, 2)
        chosen = [(one, other), (other, one)]
        if self._dice.random() < 0.3:
            chosen.pop(self._dice.randrange(2))
        self._cloud.network.cut.update(chosen)
        self._chaos.later(self._chaos.how_long(10 * MINUTE), lambda: self._cloud.network.cut.difference_update(chosen))

    # Agents

    def _agent_away(self) -> None:
        """Nobody starts it, but for a fence that comes by SSH."""
        node = self._chaos.node()
        away_s = self._chaos.how_long(6 * MINUTE)
        self._chaos.trouble(node, away_s)
        self._cloud.kill_agent(node)
        self._chaos.later(away_s, lambda: self._cloud.start_agent(node))

    def _spoil(self, how: str) -> None:
        """The agent's database is lost, emptied, or put back from a backup; the agent is started on it, at once or later."""
        node = self._chaos.node()
        away_s = self._away()
        if not node.cluster_id or node.lent:
            return
        self._chaos.trouble(node, away_s)
        self._cloud.kill_agent(node)
        self.recovery.spoil(node, how)
        self._chaos.later(away_s, lambda: self._cloud.start_agent(node))

    def _clone(self) -> None:
        """A host comes up with a copy of another's data directory; later it gets its own back."""
        one, other = (self._cloud.nodes[name] for name in self._dice.sample([*self._cloud.nodes], 2))
        away_s, lasts_s = self._away(), self._chaos.how_long(10 * MINUTE)
        if not one.cluster_id or not other.cluster_id or one.lent or other.lent or not one.host.on:
            return
        self._chaos.trouble(one, away_s + lasts_s)
        self.recovery.lend(one, other)
        self._chaos.later(away_s, lambda: self._cloud.start_agent(one))
        self._chaos.later(away_s + lasts_s, lambda: self.recovery.give_back(one))

    def _away(self) -> float:
        """How long an agent is not there: started again by systemd at once, or by hand after a while."""
        low, high = AGENT_BACK_S
        shortly = low + self._dice.random() * (high - low)
        return shortly if self._dice.random() < 0.5 else self._chaos.how_long(5 * MINUTE)
