"""Agents whose databases are lost, emptied or rolled back, told step by step.

Nothing of it does any harm: the agent refuses to begin anew, adopts what is there when it is told to, and starts nothing that may
run elsewhere by now. Where a fault is planted that lets it, it does.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path

from tests.simulation.nodes import Node
from tests.simulation.scripts import CALM_S, LIMIT_S, Scene, armed
from tests.simulation.user import Owned

from garbi.base.errors import FinalError
from garbi.hyper.main import DATABASE, open_agent
from garbi.hyper_api.vocabulary import State
from garbi.iaas.model.machine import MachineSpec


def agent_whose_database_is_lost(scene: Scene) -> None:
    """An agent dies, and its database is deleted: its machine runs on, and belongs to the same agent afterwards."""
    _lose_and_adopt(scene, _delete)


def agent_whose_database_is_emptied(scene: Scene) -> None:
    """The same with a file that is there, and empty."""
    _lose_and_adopt(scene, lambda path: path.write_bytes(b""))


def agent_whose_database_is_rolled_back(scene: Scene) -> None:
    """The same with a copy of the time before the machine, when the database knew another that was removed since."""
    earlier, node = _another_machine(scene), scene.cloud.nodes["n1"]
    copy = node.settings.data_dir / "earlier.db"
    with closing(sqlite3.connect(node.settings.data_dir / DATABASE)) as connection:
        connection.execute("VACUUM INTO ?", (str(copy),))
    _remove(scene, earlier)

    def roll_back(path: Path) -> None:
        _delete(path)
        shutil.copyfile(copy, path)

    _lose_and_adopt(scene, roll_back)
    if scene.cloud.worlds.places_of(earlier):
        scene.cloud.kernel.violate(f"I8 machine {earlier} was removed, and is made again from a copy")


def agent_that_adopts_what_runs_elsewhere(scene: Scene) -> None:
    """A host loses its power and its agent's data; its machine is created elsewhere. Back, and cut off, it adopts what it has."""
    machine, node = scene.machine("n1"), scene.cloud.nodes["n1"]
    armed(scene)
    scene.cloud.kill_host(node)
    scene.chaos.troubled["n1"] = scene.cloud.kernel.now + LIMIT_S
    _delete(node.settings.data_dir / DATABASE)
    shutil.rmtree(node.settings.data_dir / "leases", ignore_errors=True)
    scene.until(lambda: scene.row(machine).node != "n1" and scene.row(machine).settled)
    scene.cut("n1")
    node.adopting = True
    scene.cloud.boot_host(node)
    scene.cloud.kernel.sleep(CALM_S)
    scene.cloud.network.cut.clear()
    scene.ready()
    scene.cloud.kernel.sleep(CALM_S)
    scene.expect(machine, "n2", "n3", "n4")


def machine_that_disappeared_is_removed(scene: Scene) -> None:
    """An agent has lost the record of a machine, which runs on; then its user removes it."""
    machine, node = scene.machine("n1"), scene.cloud.nodes["n1"]
    with closing(sqlite3.connect(node.settings.data_dir / DATABASE, timeout=30)) as connection, connection:
        connection.execute("DELETE FROM machines WHERE id = ?", (machine,))
    _remove(scene, machine)
    if scene.cloud.worlds.places_of(machine):
        scene.cloud.kernel.violate(f"I5 machine {machine} was removed, and runs on")


def _another_machine(scene: Scene) -> str:
    """One beside the machine of the script."""
    spec = MachineSpec(image="any", type="fake", mem=128, node="n1")
    made = scene.cloud.ask(lambda controller: controller.machines.add(spec, "earlier"))
    scene.user.machines[made.id] = Owned(made.id, spec, asked_at=scene.cloud.kernel.now)
    scene.until(lambda: scene.row(made.id).state is State.RUNNING)
    return made.id


def _lose_and_adopt(scene: Scene, harm: Callable[[Path], object]) -> None:
    machine, node = scene.machine("n1"), scene.cloud.nodes["n1"]
    scene.cloud.kill_agent(node)
    harm(node.settings.data_dir / DATABASE)
    if not _is_refused(scene, node):
        scene.cloud.kernel.violate("an agent without its database begins anew")
        return
    node.adopting = True
    scene.cloud.start_agent(node)
    scene.ready()
    scene.cloud.kernel.sleep(CALM_S)
    scene.expect(machine, "n1")


def _is_refused(scene: Scene, node: Node) -> bool:
    """What the agent does that is not told to adopt."""
    refusals: list[bool] = []

    def attempt() -> None:
        try:
            open_agent(node.settings, clock=node.host.clock, simulated=True, ask=scene.cloud.asker(node)).close()
        except FinalError as error:
            refusals.append("--adopt" in error.detail)
        else:
            refusals.append(False)

    process = node.host.process("agent")
    process.spawn("main", attempt)
    scene.until(lambda: bool(refusals))
    process.kill()
    return refusals[0]


def _remove(scene: Scene, machine: str) -> None:
    scene.user.machines[machine].gone = True
    scene.cloud.ask(lambda controller: controller.machines.remove(machine))
    scene.until(
        lambda: machine not in {row.id for row in scene.cloud.ask(lambda controller: controller.machines.list())}
    )


def _delete(path: Path) -> None:
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink()


LOSS_SCRIPTS: Mapping[str, Callable[[Scene], None]] = {
    each.__name__.replace("_", "-"): each
    for each in (
        agent_whose_database_is_lost,
        agent_whose_database_is_emptied,
        agent_whose_database_is_rolled_back,
        agent_that_adopts_what_runs_elsewhere,
        machine_that_disappeared_is_removed,
    )
}
