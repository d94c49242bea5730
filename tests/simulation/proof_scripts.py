"""Whose word a proof is, told step by step: hosts whose agent knows less than it did, or is another, when its fence is run."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from tests.simulation.databases import fresh_agent
from tests.simulation.nodes import Node
from tests.simulation.scripts import CALM_S, LIMIT_S, Scene

from garbi.hyper.main import DATABASE
from garbi.hyper.store import meta
from garbi.hyper.store.database import Database
from garbi.iaas.model.node import NodeState

STRANGER = "57" * 16
OF_MACHINES = (DATABASE, "machines")
"""What of a data directory tells of machines."""


def fence_of_another_agent(scene: Scene) -> None:
    """An agent is silent, and what its host is set up with by now is another agent's directory: its fence finds nothing."""
    machine, node = scene.machine("n1"), scene.cloud.nodes["n1"]
    own = node.settings
    silence(scene, node)
    node.settings = replace(own, data_dir=scene.cloud.root / "another")
    _make_agent(node.settings.data_dir)
    scene.until(lambda: not _is_ready(scene, "n1"))
    scene.cloud.kernel.sleep(CALM_S)
    node.settings = own
    scene.cloud.kill_agent(node)  # the fence may have begun the other one
    scene.cloud.start_agent(node)
    scene.ready()
    scene.cloud.kernel.sleep(CALM_S)
    scene.expect(machine, *scene.cloud.nodes)


def fence_of_an_older_directory(scene: Scene) -> None:
    """A host gets what its agent knew some time ago from a backup; a machine is younger, and runs when the fence is run."""
    node = scene.cloud.nodes["n1"]
    scene.cloud.kill_agent(node)
    _copy(node.settings.data_dir, scene.cloud.root / "backup")
    scene.cloud.start_agent(node)
    scene.ready()
    machine = scene.machine("n1")
    silence(scene, node)
    _copy(scene.cloud.root / "backup", node.settings.data_dir)
    scene.until(lambda: not _is_ready(scene, "n1"))
    scene.cloud.kernel.sleep(CALM_S)
    scene.cloud.start_agent(node)
    scene.ready()
    scene.cloud.kernel.sleep(CALM_S)
    scene.expect(machine, *scene.cloud.nodes)


def silence(scene: Scene, node: Node) -> None:
    """Nobody hears the agent; the host is reached by SSH alone."""
    scene.chaos.troubled[node.name] = scene.cloud.kernel.now + LIMIT_S
    scene.cloud.ways.power[node.name] = "fails"
    scene.cloud.kill_agent(node)


def _is_ready(scene: Scene, name: str) -> bool:
    controller = scene.cloud.controller
    return controller is None or controller.nodes.get(name).state is NodeState.READY


def _make_agent(data_dir: Path) -> None:
    data_dir.mkdir()
    (data_dir / DATABASE).write_bytes(fresh_agent())
    with closing(Database(data_dir / DATABASE)) as database:
        meta.get_or_set(database, meta.CLUSTER_ID, STRANGER)


def _copy(of: Path, to: Path) -> None:
    """Put what tells of machines there in place of what is there."""
    to.mkdir(exist_ok=True)
    for each in (path for name in OF_MACHINES for path in to.glob(f"{name}*")):
        shutil.rmtree(each) if each.is_dir() else each.unlink()
    for each in (path for name in OF_MACHINES for path in of.glob(f"{name}*")):
        shutil.copytree(each, to / each.name) if each.is_dir() else shutil.copy(each, to / each.name)


PROOF_SCRIPTS: Mapping[str, Callable[[Scene], None]] = {
    each.__name__.replace("_", "-"): each for each in (fence_of_another_agent, fence_of_an_older_directory)
}
"""By name."""
