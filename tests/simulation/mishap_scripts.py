"""What runs with a seed have found once, told step by step and as shortly as it goes: databases, drains and steps that fail.

Each of these did harm before the product was mended.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tests.simulation.scripts import CALM_S, Scene, armed

from garbi.hyper_api.vocabulary import NodeFailurePolicy, State, Wish

AWAY_S = 400.0
"""Longer than a node may be silent until it is fenced."""


def host_whose_database_was_emptied(scene: Scene) -> None:
    """An agent dies, its database is emptied, nobody starts it; SSH works: `hyper fence` has no rows to go by."""
    spoiled(scene, "emptied")


def host_with_a_copy_of_another(scene: Scene) -> None:
    """A host comes up with a copy of another's data directory; the fence of its node finds the other's rows."""
    machine = scene.machine("n1")
    armed(scene)
    node, recovery = scene.cloud.nodes["n1"], scene.chaos.more.recovery
    scene.chaos.trouble(node, AWAY_S)
    recovery.lend(node, scene.cloud.nodes["n2"])
    scene.cloud.kernel.sleep(AWAY_S)
    recovery.give_back(node)
    scene.ready()
    scene.cloud.kernel.sleep(CALM_S)
    scene.expect(machine, *scene.cloud.nodes)


def host_that_begins_from_a_copy_of_another(scene: Scene) -> None:
    """A host is made from a copy of another's data directory: it must not start that one's machines a second time."""
    machine = scene.machine("n2", NodeFailurePolicy.STAY)
    node, recovery = scene.cloud.nodes["n1"], scene.chaos.more.recovery
    scene.chaos.trouble(node, CALM_S)
    recovery.lend(node, scene.cloud.nodes["n2"])
    scene.cloud.start_agent(node)
    scene.cloud.kernel.sleep(CALM_S)
    recovery.give_back(node)
    scene.ready()
    scene.expect(machine, "n2")


def host_whose_database_was_lost(scene: Scene) -> None:
    """An agent is started without its database: it must not begin as somebody else, whose machines these are not."""
    spoiled(scene, "lost")


def drain_that_is_taken_back(scene: Scene) -> None:
    """A node is drained whose engine takes long to remove anything, and undrained meanwhile: the machine must be somewhere."""
    machine = scene.machine("n1")
    node = scene.cloud.nodes["n1"]
    node.host.slow["remove"] = 30.0
    scene.cloud.worlds.expect_drain(node.host)
    scene.cloud.ask(lambda controller: controller.nodes.drain("n1"))
    scene.cloud.kernel.sleep(10.0)
    scene.cloud.ask(lambda controller: controller.nodes.undrain("n1"))
    scene.cloud.kernel.sleep(CALM_S)
    node.host.slow.clear()
    scene.until(lambda: scene.row(machine).settled)
    scene.expect(machine, *scene.cloud.nodes)


def start_that_is_refused_once(scene: Scene) -> None:
    """The first start of a machine is refused by its engine, once."""
    refused(scene, "start")


def creation_that_is_refused_once(scene: Scene) -> None:
    """The engine refuses to make a machine, once."""
    refused(scene, "add")


def stop_that_is_refused_once(scene: Scene) -> None:
    """The engine refuses to stop a machine, once: it must not run on for ever."""
    machine = scene.machine("n1")
    scene.cloud.nodes["n1"].world.fail_next("stop", "driver-failed")
    scene.wish(machine, Wish.STOPPED)
    scene.cloud.kernel.sleep(CALM_S)
    if scene.row(machine).state is not State.STOPPED or scene.cloud.worlds.places_of(machine):
        scene.cloud.kernel.violate(f"machine {machine} was to stop, and is {scene.row(machine).state}")


def spoiled(scene: Scene, how: str) -> None:
    """Two machines on a host whose agent comes back with a spoiled database after its node was fenced."""
    machine = scene.machine("n1")
    armed(scene)
    node = scene.cloud.nodes["n1"]
    scene.chaos.trouble(node, 2 * AWAY_S)
    scene.cloud.kill_agent(node)
    scene.chaos.more.recovery.spoil(node, how)
    scene.cloud.kernel.sleep(AWAY_S)
    scene.cloud.start_agent(node)
    scene.ready()
    scene.cloud.kernel.sleep(CALM_S)
    scene.expect(machine, *scene.cloud.nodes)


def refused(scene: Scene, verb: str) -> None:
    """A machine whose first step of that kind is refused runs all the same."""
    scene.cloud.nodes["n1"].world.fail_next(verb, "driver-failed")
    machine = scene.asked_for("n1")
    scene.cloud.kernel.sleep(CALM_S)
    scene.expect(machine, "n1")


MISHAP_SCRIPTS: Mapping[str, Callable[[Scene], None]] = {
    each.__name__.replace("_", "-"): each
    for each in (
        host_whose_database_was_emptied,
        host_with_a_copy_of_another,
        host_that_begins_from_a_copy_of_another,
        host_whose_database_was_lost,
        drain_that_is_taken_back,
        start_that_is_refused_once,
        creation_that_is_refused_once,
        stop_that_is_refused_once,
    )
}
"""By name."""
