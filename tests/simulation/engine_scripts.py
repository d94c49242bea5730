"""What happens to a host beside failures: a restart of its engine, a reboot on purpose, a disk that fails; told step by step."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tests.simulation.scripts import CALM_S, Scene, armed

from garbi.hyper_api.vocabulary import RestartPolicy, State
from garbi.iaas.model.machine import MachineSpec

REBOOT_S = 240.0
"""How long a planned reboot takes: longer than a lease and its margin."""


def engine_that_is_restarted(scene: Scene) -> None:
    """The engine of a host is restarted, and takes along, in order, a machine that is not to be restarted when it ends."""
    machine = scene.machine("n1")
    scene.cloud.nodes["n1"].world.engine.end()
    scene.cloud.kernel.sleep(CALM_S)
    scene.expect(machine, "n1")


def engine_that_is_restarted_without_its_agent(scene: Scene) -> None:
    """The same, while no agent is there to see it."""
    machine, node = scene.machine("n1"), scene.cloud.nodes["n1"]
    scene.cloud.kill_agent(node)
    node.world.engine.end()
    scene.cloud.agent_ended(node)
    scene.cloud.kernel.sleep(CALM_S)
    scene.expect(machine, "n1")


def host_that_is_rebooted_on_purpose(scene: Scene) -> None:
    """A host says that it goes down, and comes back within a few minutes: nothing is moved meanwhile."""
    machine, node = scene.machine("n1"), scene.cloud.nodes["n1"]
    armed(scene)
    assert node.agent is not None
    departure = node.agent.departure
    departure.begin()
    scene.cloud.kernel.sleep(4 * scene.cloud.pace.check_s)
    scene.cloud.kill_host(node)
    scene.chaos.troubled["n1"] = scene.cloud.kernel.now + REBOOT_S + CALM_S
    scene.cloud.kernel.sleep(REBOOT_S)
    scene.cloud.boot_host(node)
    scene.ready("n1")
    scene.cloud.kernel.sleep(CALM_S)
    scene.expect(machine, "n1")


def disk_that_cannot_be_written(scene: Scene) -> None:
    """The disk of a host fails: what runs there runs on, and nothing new is sent there."""
    machine, node = scene.machine("n1"), scene.cloud.nodes["n1"]
    assert node.agent is not None
    disk = node.agent._parts.database._writable
    disk.try_out = lambda: None  # type: ignore[method-assign]
    disk._failure = "disk I/O error"
    scene.cloud.kernel.sleep(4 * scene.cloud.pace.check_s)
    added = [scene.cloud.ask(lambda controller: controller.machines.add(NEW)) for _ in range(8)]
    if any(each.node == "n1" for each in added):
        scene.cloud.kernel.violate("a machine was sent to a node that cannot write")
    for each in added:
        scene.cloud.ask(lambda controller, each=each: controller.machines.remove(each.id))  # type: ignore[misc]
    if scene.row(machine).state is not State.RUNNING:
        scene.cloud.kernel.violate(f"machine {machine} is {scene.row(machine).state} because a disk failed")
    scene.cloud.kernel.sleep(CALM_S)


NEW = MachineSpec(image="any", type="fake", mem=64, restart=RestartPolicy.NO)

ENGINE_SCRIPTS: Mapping[str, Callable[[Scene], None]] = {
    each.__name__.replace("_", "-"): each
    for each in (
        engine_that_is_restarted,
        engine_that_is_restarted_without_its_agent,
        host_that_is_rebooted_on_purpose,
        disk_that_cannot_be_written,
    )
}
