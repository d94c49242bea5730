"""A cloud of three real hosts, machines that must outlast everything, and users who make and remove others meanwhile."""

from __future__ import annotations

import random
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.host.agent.host_agent import build_images

from garbi.base.errors import GarbiError
from garbi.base.token import read_secret
from garbi.iaas_api.client import IaasClient

from .conftest import at_once
from .controllers import Cloud, add_node
from .hosts import Host, Lab, wait_until
from .sightings import Sightings

NAMES = ("n1", "n2", "n3")
SETTINGS = {"check_period_s": 1, "unreachable_after_s": 5}
PERMITTED = "permitted"
POWER = """\
#!{python}
import pathlib, subprocess, sys
action, node = sys.argv[1:3]
container = {containers}[node]
if not pathlib.Path({permitted!r}).exists():
    sys.exit("the power controller of " + node + " does not answer")
if action == "off":
    subprocess.run(["docker", "kill", container], stderr=subprocess.DEVNULL, check=False)
ask = ["docker", "inspect", "-f", "{{{{.State.Running}}}}", container]
print("on" if subprocess.check_output(ask, text=True).strip() == "true" else "off")
"""


Turn = Callable[["Scene", str], None]


class Scene:
    """A cloud of three hosts, machines that must outlast everything, and an administrator's power program."""

    def __init__(self, lab: Lab, hosts: list[Host], directory: Path) -> None:
        self.hosts = dict(zip(NAMES, hosts, strict=True))
        self.permitted = directory / PERMITTED
        self.permitted.touch()
        self.cloud = Cloud(directory, power_command=self._power_program(directory), **SETTINGS)
        self.sightings = Sightings({_container_id(host): name for name, host in self.hosts.items()})
        images = build_images(directory)
        self.cloud("img", "add", "vm", str(images.vm), "--type", "qcow2")
        self.cloud("img", "add", "container", str(images.container), "--type", "docker")
        at_once(*[lambda n=name, h=host: add_node(self.cloud, lab, n, h) for name, host in self.hosts.items()])  # type: ignore[misc]

    def client(self) -> IaasClient:
        return IaasClient(self.cloud.url, token=read_secret(self.cloud.data_dir / "token"))

    def nodes(self) -> dict[str, dict[str, Any]]:
        """The nodes by name."""
        return {node["name"]: node for node in self.client().nodes.list()}

    def machines(self) -> dict[str, dict[str, Any]]:
        """The machines by id."""
        return {machine["id"]: machine for machine in self.client().machines.list()}

    def wait_for_state(self, name: str, *states: str) -> None:
        """Wait until a node is in one of these states."""
        self.wait(lambda: self.nodes()[name]["state"] in states, lambda: f"{name}: {self.nodes()[name]}")

    def wait(self, condition: Callable[[], bool], words: Callable[[], str]) -> None:
        """Wait for a state of the cloud; a controller that is just being started again is asked once more."""

        def holds() -> bool:
            with suppress(GarbiError):
                return condition()
            return False

        try:
            wait_until(holds)
        except AssertionError as error:
            raise AssertionError(f"{error}: {words()}\n{self.events()}") from None

    def events(self) -> str:
        """The end of the controller's log, for who reads why a test failed."""
        return self.cloud.log.read_text(errors="replace")[-4000:]

    def processes(self, prefix: str) -> dict[str, list[tuple[str, int]]]:
        """Where the machines of that prefix truly run."""
        return {machine: places for machine, places in self.sightings.running().items() if machine.startswith(prefix)}

    def runs_on(self, machine: str, name: str) -> bool:
        """Whether a machine truly runs on that node."""
        return any(node == name for node, _pid in self.sightings.running().get(machine, []))

    def moved_from(self, name: str) -> bool:
        """Whether all that may be made again elsewhere runs on other nodes than that one."""
        lasting = [machine for key, machine in self.machines().items() if key.startswith("lasting")]
        movable = [machine for machine in lasting if machine["on_node_failure"] == "recreate"]
        return all(machine["state"] == "running" and machine["node"] != name for machine in movable)

    def at_rest(self, prefix: str = "lasting") -> None:
        """Wait until every node is ready, and every machine of that prefix is as it is wished."""
        self.wait(lambda: all(node["state"] == "ready" for node in self.nodes().values()), self.told)
        self.wait(lambda: self._all_run(prefix), self.told)

    def _all_run(self, prefix: str) -> bool:
        lasting = {name: machine for name, machine in self.machines().items() if name.startswith(prefix)}
        return all(machine["settled"] and machine["state"] == "running" for machine in lasting.values())

    def told(self) -> str:
        """Nodes and machines in short."""
        nodes = [f"{name}: {node['state']}: {node['reason']}" for name, node in self.nodes().items()]
        machines = [
            f"{name} on {machine['node']}: {machine['state']}{'' if machine['settled'] else ' (on its way)'}: {machine['reason']}"
            for name, machine in self.machines().items()
        ]
        return "\n".join(nodes + machines)

    def close(self) -> None:
        """End the controller and the looks."""
        self.sightings.close()
        with suppress(Exception):
            self.cloud.close()

    def _power_program(self, directory: Path) -> Path:
        program = directory / "power"
        containers = {name: host.name for name, host in self.hosts.items()}
        program.write_text(
            POWER.format(python=sys.executable, containers=containers, permitted=str(self.permitted)), encoding="utf-8"
        )
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        return program


def _container_id(host: Host) -> str:
    found = subprocess.run(
        ["docker", "inspect", "-f", "{{.Id}}", host.name], check=True, capture_output=True, text=True
    )
    return found.stdout.strip()


@contextmanager
def load(scene: Scene) -> Iterator[dict[str, int]]:
    """Somebody makes and removes containers all the time, and bears it when that is refused."""
    ending = threading.Event()
    tally = {"made": 0, "refused": 0}

    def work(number: int) -> None:
        chance = random.Random(number)
        client = scene.client()
        mine: list[str] = []
        turn = 0
        while not ending.wait(0.5):
            turn += 1
            try:
                if len(mine) < 3:
                    name = f"load-{number}-{turn}"
                    client.machines.add({"image": "container", "id": name, "mem": 32}, wait_s=10)
                    mine.append(name)
                    tally["made"] += 1
                else:
                    client.machines.remove(mine.pop(chance.randrange(len(mine))), wait_s=10)
            except GarbiError:
                tally["refused"] += 1

    workers = [threading.Thread(target=work, args=(number,), daemon=True) for number in (1, 2)]
    for worker in workers:
        worker.start()
    try:
        yield tally
    finally:
        ending.set()
        for worker in workers:
            worker.join(120)


def populate(scene: Scene) -> None:
    """Make the machines that must outlast everything: two containers on each node, and a virtual machine."""
    for number, name in enumerate(NAMES):
        for policy in ("recreate", "stay"):
            order = {"image": "container", "id": f"lasting-{policy}-{number}", "node": name, "mem": 32}
            restart = "always" if policy == "stay" else "on-failure"
            scene.client().machines.add({**order, "on_node_failure": policy, "restart": restart}, wait_s=60)
    scene.client().machines.add({"image": "vm", "id": "lasting-vm", "node": "n3", "mem": 128}, wait_s=120)
    scene.at_rest()


def take(scene: Scene, turns: Iterable[tuple[Turn, str]]) -> None:
    """Let things happen one after the other, while others make and remove machines; after each all is as it was wished."""
    with load(scene) as tally:
        for turn, name in turns:
            print(f"{turn.__name__} {name} …", flush=True)
            turn(scene, name)
            scene.at_rest()
    print(tally, flush=True)
    assert tally["made"] > 0


def check(scene: Scene) -> None:
    """Nothing was lost, doubled, orphaned or stuck."""
    for name in [name for name in scene.machines() if name.startswith("load")]:
        scene.client().machines.remove(name, wait_s=60)
    scene.at_rest("")
    scene.wait(lambda: scene.client().audit() == [], lambda: str(scene.client().audit()))
    assert scene.sightings.twice() == {}
    assert {name: len(places) for name, places in scene.processes("").items()} == {
        name: 1 for name, machine in scene.machines().items() if machine["type"] == "docker"
    }


@contextmanager
def frozen(scene: Scene, name: str) -> Iterator[None]:
    """A host as a whole does nothing while the block runs; it goes on afterwards, if it was not switched off."""
    scene.sightings.note_frozen(name)
    freeze = ["docker", "pause", scene.hosts[name].name]  # which gives up early on a busy machine
    wait_until(lambda: subprocess.run(freeze, check=False, capture_output=True).returncode == 0)
    try:
        yield
    finally:
        subprocess.run(["docker", "unpause", scene.hosts[name].name], check=False, capture_output=True)
        scene.sightings.note_thawed(name)
