"""The restart of a machine that died, which is killed: nobody asks for it but the machine's own end."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.crash.scene import IMAGE, PATIENCE_S, VICTIM, Scene, all_settled, bring, find, take_in

from garbi.hyper.agent import Agent
from garbi.hyper.drivers.fake import FakeWorld
from garbi.hyper.model.machine import Awaits, Machine, State, Wish

QEMU_PIDS = Path("/run/libvirt/qemu")


class Restart:
    """The victim dies while it runs, and is started again."""

    passes = frozenset(
        {
            "machine.failed.recorded",
            "machine.restart.begun",
            "machine.start.published",
            "machine.restart.done",
            "machine.running.recorded",
            "machine.restart.recorded",
        }
    )
    settings: Mapping[str, Any] = {}
    fake: Mapping[str, str] = {}
    keeps_on = True

    def prepare(self, agent: Agent, scene: Scene) -> None:
        take_in(agent, scene, IMAGE)
        if find(agent, VICTIM) is not None:
            bring(agent, scene, Wish.STOPPED)  # a wish gives it all its restarts back
        bring(agent, scene, Wish.RUNNING)

    def ask(self, agent: Agent, scene: Scene) -> None:
        slay(agent, scene)
        await_restart(agent)

    def outcome(self, agent: Agent, scene: Scene) -> bool:
        """It runs again, and that was counted once, wherever the agent was killed."""
        all_settled(agent)
        victim = await_restart(agent)
        assert (victim.wish, victim.restarts) == (Wish.RUNNING, 1), f"counted wrongly: {victim}"
        return True

    def clear(self, agent: Agent, scene: Scene) -> None:
        bring(agent, scene, None)


def slay(agent: Agent, scene: Scene) -> None:
    """Let the victim die as by SIGKILL."""
    name = f"garbi-{agent.cluster_id[:8]}-{VICTIM}"
    match scene.type:
        case "fake":
            world = FakeWorld.at(agent.settings.data_dir / "drivers/fake")
            mine = next(each for each in world.machines() if (each.cluster_id, each.id) == (agent.cluster_id, VICTIM))
            world.plant(mine.ended("killed from outside"))
        case "docker":
            subprocess.run(["docker", "kill", name], check=True, stdout=subprocess.DEVNULL)
        case _:
            os.kill(int((QEMU_PIDS / f"{name}.pid").read_text(encoding="ascii")), signal.SIGKILL)


def await_restart(agent: Agent) -> Machine:
    """Wait until the victim was started again."""
    with agent.events.signal_of(VICTIM) as changed:
        while not is_restarted(victim := agent.machines.get(VICTIM)):
            assert changed.wait(PATIENCE_S), f"not started again: {victim}"
            changed.clear()
    return victim


def is_restarted(victim: Machine) -> bool:
    return (victim.state, victim.awaits) == (State.RUNNING, Awaits.NOTHING) and victim.restarts > 0
