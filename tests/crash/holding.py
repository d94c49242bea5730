"""The operations on a machine that runs under a lease, which are killed: it may not run any more, and it may run again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tests.crash.scene import IMAGE, PATIENCE_S, VICTIM, Scene, all_settled, bring, take_in
from tests.leases.words import CONTROLLER, HOLDER, RENEWAL

from garbi.hyper.agent import Agent
from garbi.hyper.model.machine import Machine, NodeFailurePolicy, State, Wish
from garbi.hyper_api.assignment import CONTROLLER_LABEL, EPOCH_LABEL, Assignment


class Hold:
    """The victim runs under a lease, and its controller gives it up."""

    passes = frozenset({"machine.kill.begun", "machine.kill.done", "machine.stopped.recorded"})
    settings: Mapping[str, Any] = {}
    fake: Mapping[str, str] = {}
    keeps_on = False

    def prepare(self, agent: Agent, scene: Scene) -> None:
        self.clear(agent, scene)
        take_in(agent, scene, IMAGE)
        number = lease_of(agent) + 1
        renew(agent, number)
        labels = {CONTROLLER_LABEL: CONTROLLER, EPOCH_LABEL: "1"}
        spec = replace(scene.spec(VICTIM, IMAGE), labels=labels, on_node_failure=NodeFailurePolicy.RECREATE)
        agent.machines.add(spec, assignment=order(number))
        all_settled(agent)
        assert at_rest(agent).state is State.RUNNING

    def ask(self, agent: Agent, scene: Scene) -> None:
        renew(agent, lease_of(agent) + 1)
        at_rest(agent)

    def outcome(self, agent: Agent, scene: Scene) -> bool:
        """It does not run, and waits; or it was never given up."""
        victim = at_rest(agent)
        assert (victim.wish, victim.settled) == (Wish.RUNNING, True)
        return victim.held

    def clear(self, agent: Agent, scene: Scene) -> None:
        bring(agent, scene, None)


class Free(Hold):
    """The victim was given up, and its controller orders that it runs again."""

    passes = frozenset(
        {"machine.wish.recorded", "machine.start.begun", "machine.start.done", "machine.running.recorded"}
    )
    keeps_on = True

    def prepare(self, agent: Agent, scene: Scene) -> None:
        super().prepare(agent, scene)
        super().ask(agent, scene)

    def ask(self, agent: Agent, scene: Scene) -> None:
        agent.machines.wish(VICTIM, Wish.RUNNING, order(lease_of(agent)))

    def outcome(self, agent: Agent, scene: Scene) -> bool:
        """It runs; or nobody ordered it."""
        all_settled(agent)
        return not super().outcome(agent, scene)


def renew(agent: Agent, number: int) -> None:
    """Begin or renew a lease that does not end by itself."""
    agent.leases.renew(replace(RENEWAL, number=number, arm=False, seen=None, seen_boot="", peers=()))


def order(number: int) -> Assignment:
    return Assignment(CONTROLLER, HOLDER, 1, number, 1)


def lease_of(agent: Agent) -> int:
    """The number of the lease that the agent knows; 0 when it knows none."""
    return next((status.lease.number for status in agent.leases.all()), 0)


def at_rest(agent: Agent) -> Machine:
    """Wait until the victim runs if it may, and only then."""
    with agent.events.signal_of(VICTIM) as changed:
        while not is_at_rest(agent, victim := agent.machines.get(VICTIM)):
            assert changed.wait(PATIENCE_S), f"it does not come to rest: {victim}"
            changed.clear()
    return victim


def is_at_rest(agent: Agent, victim: Machine) -> bool:
    return victim.held if agent.leases.hold(victim) is not None else victim.state is State.RUNNING
