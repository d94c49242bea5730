"""Three real hosts lose, in turns and under load, whatever can be lost; afterwards all is there, and nothing ever ran twice."""

from __future__ import annotations

import random
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from tests.host.agent.host_agent import build_images

from garbi.base.errors import GarbiError
from garbi.base.token import read_secret
from garbi.iaas_api.client import IaasClient

from .conftest import at_once
from .controllers import Cloud, add_node
from .hosts import Host, Lab, wait_until
from .sightings import Sightings

pytestmark = [pytest.mark.root, pytest.mark.docker, pytest.mark.libvirt, pytest.mark.timeout(1800)]

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


@pytest.fixture(scope="module")
def scene(lab: Lab, packaged_image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    hosts = [lab.add_host(packaged_image) for _ in NAMES]
    at_once(*[lambda h=host: h.wait_for("docker info >/dev/null && virsh -c qemu:///system uri") for host in hosts])  # type: ignore[misc]
    made = Scene(lab, hosts, tmp_path_factory.mktemp("chaos"))
    try:
        yield made
    finally:
        made.close()


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


def agent_dies(scene: Scene) -> None:
    """Its machines keep their processes."""
    before = {name: places for name, places in scene.processes("lasting").items() if places[0][0] == "n1"}
    scene.hosts["n1"].run("systemctl kill -s KILL garbi-hyper@*")
    scene.wait_for_state("n1", "ready")
    after = scene.processes("lasting")
    assert {name: after.get(name) for name in before} == before


def docker_dies(scene: Scene) -> None:
    scene.hosts["n2"].run("systemctl kill -s KILL docker.service")
    scene.hosts["n2"].wait_for("docker info >/dev/null")


def libvirtd_dies(scene: Scene) -> None:
    scene.hosts["n3"].run("systemctl kill -s KILL libvirtd.service")
    scene.hosts["n3"].wait_for("virsh -c qemu:///system uri")


def controller_dies(scene: Scene) -> None:
    """Nothing moves for that."""
    before = {name: machine["node"] for name, machine in scene.machines().items() if name.startswith("lasting")}
    scene.cloud.kill()
    scene.cloud.start()
    scene.wait(
        lambda: {name: machine["node"] for name, machine in scene.machines().items() if name in before} == before,
        scene.told,
    )


def host_dies(scene: Scene) -> None:
    """Its containers go on elsewhere; what they left is dropped when it is back."""
    scene.hosts["n1"].kill()
    scene.wait_for_state("n1", "unavailable")
    scene.wait(
        lambda: all(
            machine["state"] == "running" and machine["node"] != "n1"
            for name, machine in scene.machines().items()
            if name.startswith("lasting") and machine["on_node_failure"] == "recreate"
        ),
        scene.told,
    )
    scene.hosts["n1"].boot()


def host_freezes_shortly(scene: Scene) -> None:
    """A hiccup: no machine moves, no process is ended."""
    before = scene.processes("lasting")
    with frozen(scene, "n2"):
        threading.Event().wait(2)  # what is measured here is that nothing happens in such a time
    scene.wait_for_state("n2", "ready")
    assert scene.processes("lasting") == before


def host_freezes_and_cannot_be_fenced(scene: Scene) -> None:
    """Without a proof nothing moves, however long it takes; thawed, it goes on as it was."""
    before = scene.processes("lasting")
    scene.permitted.unlink()
    with frozen(scene, "n2"):
        scene.wait_for_state("n2", "unreachable")
        scene.wait(
            lambda: all(
                machine["state"] == "unknown" for machine in scene.machines().values() if machine["node"] == "n2"
            ),
            scene.told,
        )
    scene.permitted.touch()
    scene.wait_for_state("n2", "ready")
    scene.wait(lambda: scene.processes("lasting") == before, lambda: f"{scene.processes('lasting')} not {before}")


def host_freezes_and_is_switched_off(scene: Scene) -> None:
    with frozen(scene, "n3"):
        scene.wait_for_state("n3", "unavailable")
    scene.hosts["n3"].boot()


def answers_are_lost(scene: Scene) -> None:
    """A partition one way: the node hears the controller, which does not hear it; its power controller ends the doubt."""
    host = scene.hosts["n3"]
    host.run("iptables -I OUTPUT -o eth0 -j DROP")
    scene.wait_for_state("n3", "unavailable")
    host.boot()


def network_is_cut_and_heals(scene: Scene) -> None:
    """A partition both ways, and no proof to be had: nothing moves, nothing ends."""
    before = scene.processes("lasting")
    scene.permitted.unlink()
    host = scene.hosts["n1"]
    host.run("iptables -I INPUT -i eth0 -j DROP; iptables -I OUTPUT -o eth0 -j DROP")
    scene.wait_for_state("n1", "unreachable")
    host.run("iptables -D INPUT -i eth0 -j DROP; iptables -D OUTPUT -o eth0 -j DROP")
    scene.permitted.touch()
    scene.wait_for_state("n1", "ready")
    assert scene.processes("lasting") == before


@contextmanager
def frozen(scene: Scene, name: str) -> Iterator[None]:
    """A host as a whole does nothing while the block runs; it goes on afterwards, if it was not switched off."""
    scene.sightings.note_frozen(name)
    subprocess.run(["docker", "pause", scene.hosts[name].name], check=True, stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        subprocess.run(["docker", "unpause", scene.hosts[name].name], check=False, capture_output=True)
        scene.sightings.note_thawed(name)


TURNS = (
    agent_dies,
    docker_dies,
    host_freezes_shortly,
    controller_dies,
    host_dies,
    libvirtd_dies,
    host_freezes_and_cannot_be_fenced,
    answers_are_lost,
    network_is_cut_and_heals,
    host_freezes_and_is_switched_off,
    controller_dies,
)


def test_whatever_dies_in_turns_under_load_nothing_is_lost_and_nothing_runs_twice(scene: Scene) -> None:
    for number, name in enumerate(NAMES):
        for kind, policy in (("container", "recreate"), ("container", "stay")):
            order = {
                "image": kind,
                "id": f"lasting-{policy}-{number}",
                "node": name,
                "mem": 32,
                "on_node_failure": policy,
            }
            scene.client().machines.add({**order, "restart": "always"}, wait_s=60)
    scene.client().machines.add({"image": "vm", "id": "lasting-vm", "node": "n3", "mem": 128}, wait_s=120)
    scene.at_rest()
    with load(scene) as tally:
        for turn in TURNS:
            print(f"{turn.__name__} …", flush=True)
            turn(scene)
            scene.at_rest()
    print(tally)
    assert tally["made"] > 0
    for name in [name for name in scene.machines() if name.startswith("load")]:
        scene.client().machines.remove(name, wait_s=60)
    scene.at_rest("")
    scene.wait(lambda: scene.client().audit() == [], lambda: str(scene.client().audit()))
    assert scene.sightings.close() == {}
    assert {name: len(places) for name, places in scene.processes("").items()} == {
        name: 1 for name, machine in scene.machines().items() if machine["type"] == "docker"
    }
