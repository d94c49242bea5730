"""The operations on kept disks that are killed: a removal that keeps the disk, and the end of a disk that was kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.crash.scene import IMAGE, PATIENCE_S, VICTIM, Scene, all_settled, bring, find, take_in

from garbi.hyper.agent import Agent
from garbi.hyper.model.machine import Wish

KEEP_S = 3600
NAME = f"{VICTIM}.0"


class RemoveKeeping:
    """The victim goes while it runs, and its disk stays."""

    passes = frozenset({"machine.kill.done", "machine.keep.begun", "machine.keep.done", "machine.remove.recorded"})
    settings: Mapping[str, Any] = {}
    fake: Mapping[str, str] = {}
    keeps_on = False

    def prepare(self, agent: Agent, scene: Scene) -> None:
        drop_all(agent)
        take_in(agent, scene, IMAGE)
        bring(agent, scene, Wish.RUNNING)

    def ask(self, agent: Agent, scene: Scene) -> None:
        agent.machines.remove(VICTIM, KEEP_S)

    def outcome(self, agent: Agent, scene: Scene) -> bool:
        all_settled(agent)
        kept = [(record.name, record.keep_s) for record in agent.kept.list()]
        gone = find(agent, VICTIM) is None
        assert kept == ([(NAME, KEEP_S)] if gone else []), "the disk is lost, or kept beside its machine"
        return gone

    def clear(self, agent: Agent, scene: Scene) -> None:
        drop_all(agent)
        bring(agent, scene, None)


class DropKept:
    """A disk that was kept goes before its time."""

    passes = frozenset({"kept.drop.begin", "kept.drop.gone", "kept.drop.recorded"})
    settings: Mapping[str, Any] = {}
    fake: Mapping[str, str] = {}
    keeps_on = False

    def prepare(self, agent: Agent, scene: Scene) -> None:
        self.clear(agent, scene)
        take_in(agent, scene, IMAGE)
        agent.machines.add(scene.spec(VICTIM, IMAGE, Wish.STOPPED))
        all_settled(agent)
        agent.machines.remove(VICTIM, KEEP_S)
        assert agent.machines.wait_settled(VICTIM, PATIENCE_S) is None

    def ask(self, agent: Agent, scene: Scene) -> None:
        agent.kept.remove(NAME)

    def outcome(self, agent: Agent, scene: Scene) -> bool:
        """A disk may be gone while its row is left, which says so until it is dropped again."""
        names = [record.name for record in agent.kept.list()]
        if names and agent.audit():
            agent.kept.remove(NAME)
            return True
        return names == []

    def clear(self, agent: Agent, scene: Scene) -> None:
        drop_all(agent)
        bring(agent, scene, None)


def drop_all(agent: Agent) -> None:
    """Leave no disk that is kept."""
    for record in agent.kept.list():
        agent.kept.remove(record.name)
