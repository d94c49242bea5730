"""Machines of which their node has nothing, or says so: made again where they come from their image, and nowhere too soon."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping

from tests.simulation.scripts import CALM_S, Scene

from garbi.hyper_api.vocabulary import NodeFailurePolicy, State
from garbi.iaas.model.machine import Moving

MOMENT_S = 5.0


def machine_that_somebody_removed(scene: Scene) -> None:
    """Somebody removes a machine at its host, behind the controller's back: it comes from its image, and is made again."""
    machine = scene.machine("n1")
    removed_behind_our_back(scene, machine)
    scene.cloud.kernel.sleep(CALM_S)
    scene.expect(machine, "n1")


def disk_that_somebody_removed(scene: Scene) -> None:
    """The same of a machine whose disk went with it: it is never made from its image again, and its user takes it away."""
    machine = scene.machine("n1", NodeFailurePolicy.STAY)
    removed_behind_our_back(scene, machine)
    scene.cloud.kernel.sleep(CALM_S)
    if scene.row(machine).state is not State.FAILED or scene.cloud.worlds.places_of(machine):
        scene.cloud.kernel.violate(f"machine {machine}, whose disk is gone, is {scene.row(machine).state}")
    scene.user.machines[machine].gone = True
    scene.cloud.ask(lambda controller: controller.machines.remove(machine))


def machine_that_its_agent_does_not_list(scene: Scene) -> None:
    """An agent has no record of a machine that its engine has, while its node is drained: it goes nowhere until that is gone."""
    machine = scene.machine("n1")
    node = scene.cloud.nodes["n1"]
    there = node.world.machine(machine)
    scene.cloud.kill_controller()
    removed_behind_our_back(scene, machine)
    node.world.plant(there)
    scene.cloud.start_controller()
    scene.until(lambda: scene.row(machine).state is State.FAILED)
    scene.cloud.worlds.expect_drain(node.host)
    scene.cloud.ask(lambda controller: controller.nodes.drain("n1"))
    scene.cloud.kernel.sleep(CALM_S)
    node.world.uproot(there.key)
    scene.until(lambda: scene.row(machine).state is State.RUNNING)
    scene.cloud.ask(lambda controller: controller.nodes.undrain("n1"))
    scene.cloud.kernel.sleep(CALM_S)
    scene.expect(machine, "n2", "n3", "n4")


def machine_that_a_lost_commit_moved(scene: Scene) -> None:
    """A machine waits for a node, and is given n2; then the database is put back to before that, while n2 cannot be asked."""
    machine, cloud = scene.machine("n1"), scene.cloud
    cloud.nodes["n1"].host.slow["remove"] = 30.0
    for name in ("n1", "n2", "n3", "n4"):
        cloud.worlds.expect_drain(cloud.nodes[name].host)
        cloud.ask(lambda controller, name=name: controller.nodes.drain(name))  # type: ignore[misc]
    scene.until(lambda: scene.row(machine).moving is Moving.GONE and scene.row(machine).state is State.FAILED)
    cloud.nodes["n1"].host.slow.clear()
    cloud.kill_controller()
    shutil.copytree(cloud.root / "controller", cloud.root / "before")
    cloud.start_controller()
    scene.until(lambda: cloud.controller is not None)
    cloud.ask(lambda controller: controller.nodes.undrain("n2"))
    scene.until(lambda: scene.row(machine).state is State.RUNNING)
    cloud.kill_controller()
    shutil.rmtree(cloud.root / "controller")
    (cloud.root / "before").rename(cloud.root / "controller")
    scene.cut("n2")
    cloud.ways.ssh["n2"] = cloud.ways.power["n2"] = "fails"
    cloud.start_controller()
    scene.until(lambda: cloud.controller is not None)
    scene.restart_controller()  # the term of the one before was that of the former one
    cloud.ask(lambda controller: controller.nodes.undrain("n3"))
    cloud.kernel.sleep(3 * cloud.pace.unreachable_s)  # no lease has ended by then
    cloud.network.cut.clear()
    scene.ready("n3")
    for name in ("n1", "n2", "n4"):
        cloud.ask(lambda controller, name=name: controller.nodes.undrain(name))  # type: ignore[misc]
    scene.until(lambda: scene.row(machine).state is State.RUNNING)
    cloud.kernel.sleep(CALM_S)
    scene.expect(machine, "n2")


def removed_behind_our_back(scene: Scene, machine: str) -> None:
    """Remove a machine at its host, and wait until nothing of it is there."""
    node = scene.cloud.nodes["n1"]
    scene.chaos.troubled["n1"] = scene.cloud.kernel.now + CALM_S
    agent = node.agent
    assert agent is not None
    agent.machines.remove(machine)
    made = agent.machines.get(machine).created_at
    while any((each.id, each.created_at) == (machine, made) for each in agent.machines.list()):
        scene.cloud.kernel.sleep(MOMENT_S)


DRAIN_SCRIPTS: Mapping[str, Callable[[Scene], None]] = {
    each.__name__.replace("_", "-"): each
    for each in (
        machine_that_somebody_removed,
        disk_that_somebody_removed,
        machine_that_its_agent_does_not_list,
        machine_that_a_lost_commit_moved,
    )
}
"""By name."""
