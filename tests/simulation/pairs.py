"""Clouds of two nodes, told step by step: each node is the only other voice beside the controller.

Nothing of it does any harm; where a fault is planted that lets it, it does. What ends on a node while its fellow is off is no
violation for the checks, which cannot tell whether it had to: so each script looks for itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from tests.simulation.scripts import CALM_S, LIMIT_S, Scene, armed


def controller_away_with_one_node_off(scene: Scene) -> None:
    """One of two nodes is switched off; a while later the controller dies, too, and is away for long."""
    machine = scene.machine("n1")
    armed(scene)
    scene.cloud.kill_host(scene.cloud.nodes["n2"])
    scene.chaos.troubled["n2"] = scene.cloud.kernel.now + LIMIT_S
    scene.cloud.kernel.sleep(6 * scene.cloud.pace.check_s)
    controller_is_away(scene, machine, "n1")
    scene.cloud.boot_host(scene.cloud.nodes["n2"])
    scene.ready()
    scene.expect(machine, "n1")


def controller_away_from_two_nodes(scene: Scene) -> None:
    """The controller dies and is away for long; both nodes hear each other, and nobody else."""
    machine = scene.machine("n1")
    armed(scene)
    controller_is_away(scene, machine, "n1")
    scene.ready()
    scene.expect(machine, "n1")


def node_that_hears_nobody(scene: Scene) -> None:
    """One of two nodes is cut off from the controller and from its fellow."""
    machine = scene.machine("n1")
    armed(scene)
    scene.cut("n1")
    scene.cloud.network.cut |= {("n1", "n2"), ("n2", "n1")}
    moves_and_comes_back(scene, machine)


def node_whose_fellow_hears_the_controller(scene: Scene) -> None:
    """One of two nodes is cut off from the controller alone; its fellow says that it hears it."""
    machine = scene.machine("n1")
    armed(scene)
    scene.cut("n1")
    moves_and_comes_back(scene, machine)


def node_whose_death_its_fellow_tells_first(scene: Scene) -> None:
    """One of two nodes loses its power just after it was renewed: its fellow says that it hears nobody, before it is missed."""
    machine = scene.machine("n1")
    armed(scene)
    scene.keep("PUT", "n1", "/hyper/leases/")
    scene.until(lambda: bool(scene.copies))
    scene.cloud.network.keep = None
    scene.cloud.kernel.sleep(1.0)
    scene.chaos.troubled["n1"] = scene.cloud.kernel.now + LIMIT_S
    scene.cloud.kill_host(scene.cloud.nodes["n1"])
    scene.until(lambda: scene.row(machine).node != "n1" and scene.row(machine).settled)
    scene.cloud.boot_host(scene.cloud.nodes["n1"])
    scene.ready()


def successor_with_shorter_leases(scene: Scene) -> None:
    """A node is cut off while the controller dies; the next one is set to give leases of a third of the length."""
    machine = scene.machine("n1")
    armed(scene)
    scene.cut("n1")
    scene.cloud.network.cut |= {("n1", "n2"), ("n2", "n1")}
    pace = scene.cloud.pace
    scene.cloud.pace = replace(pace, ttl_s=pace.ttl_s / 3)
    scene.restart_controller()
    moves_and_comes_back(scene, machine)


def node_that_dies_long_after_another(scene: Scene) -> None:
    """One of three nodes is switched off for good; half an hour later another one loses its power."""
    machine = scene.machine("n1")
    armed(scene)
    for name in ("n3", "n1"):
        scene.chaos.troubled[name] = scene.cloud.kernel.now + 3 * LIMIT_S
    scene.cloud.kill_host(scene.cloud.nodes["n3"])
    scene.cloud.kernel.sleep(LIMIT_S)
    scene.expect(machine, "n1")
    scene.cloud.kill_host(scene.cloud.nodes["n1"])
    scene.until(lambda: scene.row(machine).node != "n1" and scene.row(machine).settled)
    scene.expect(machine, "n2")
    for name in ("n3", "n1"):
        scene.cloud.boot_host(scene.cloud.nodes[name])
    scene.ready()


def controller_is_away(scene: Scene, machine: str, name: str) -> None:
    """Let the controller be dead for longer than any lease lasts, and see that a machine runs on."""
    scene.cloud.kill_controller()
    scene.cloud.kernel.sleep(3 * scene.cloud.pace.ttl_s)
    places = [host.name for host in scene.cloud.worlds.places_of(machine)]
    if places != [name]:
        scene.cloud.kernel.violate(f"machine {machine} ended on {name} for no reason: the controller was away")
    scene.cloud.start_controller()
    scene.until(lambda: scene.cloud.controller is not None)


def moves_and_comes_back(scene: Scene, machine: str) -> None:
    """Wait until the other node runs a machine; then mend the network."""
    scene.until(lambda: scene.row(machine).node != "n1" and scene.row(machine).settled)
    scene.cloud.kernel.sleep(CALM_S)
    scene.cloud.network.cut.clear()
    scene.ready()
    scene.cloud.kernel.sleep(CALM_S)


PAIR_SCRIPTS: Mapping[str, Callable[[Scene], None]] = {
    each.__name__.replace("_", "-"): each
    for each in (
        controller_away_with_one_node_off,
        controller_away_from_two_nodes,
        node_that_hears_nobody,
        node_whose_fellow_hears_the_controller,
        node_whose_death_its_fellow_tells_first,
        successor_with_shorter_leases,
        node_that_dies_long_after_another,
    )
}
