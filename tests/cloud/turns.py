"""What can happen to a cloud of real hosts: each turn breaks something of one node, or of the controller, and mends it again.

A turn fails when what it broke did more harm than it may. Whether everything is as it was wished is for its caller to ask.
"""

from __future__ import annotations

import threading
from contextlib import suppress

from garbi.base.errors import GarbiError

from .scene import Scene, Turn, frozen


def agent_dies(scene: Scene, name: str) -> None:
    """Its machines keep their processes."""
    before = {machine: places for machine, places in scene.processes("lasting").items() if places[0][0] == name}
    scene.hosts[name].run("systemctl kill -s KILL garbi-hyper@*")
    scene.wait_for_state(name, "ready")
    after = scene.processes("lasting")
    assert {machine: after.get(machine) for machine in before} == before


def docker_dies(scene: Scene, name: str) -> None:
    scene.hosts[name].run("systemctl kill -s KILL docker.service")
    scene.hosts[name].wait_for("docker info >/dev/null")


def docker_is_restarted(scene: Scene, name: str) -> None:
    """As an administrator does after a change of its configuration."""
    scene.hosts[name].run("systemctl restart docker.service")
    scene.hosts[name].wait_for("docker info >/dev/null")


def libvirtd_dies(scene: Scene, name: str) -> None:
    scene.hosts[name].run("systemctl kill -s KILL libvirtd.service")
    scene.hosts[name].wait_for("virsh -c qemu:///system uri")


def controller_dies(scene: Scene, _name: str) -> None:
    """Nothing moves for that."""
    before = {name: machine["node"] for name, machine in scene.machines().items() if name.startswith("lasting")}
    scene.cloud.kill()
    scene.cloud.start()
    scene.wait(
        lambda: {name: machine["node"] for name, machine in scene.machines().items() if name in before} == before,
        scene.told,
    )


def host_dies(scene: Scene, name: str) -> None:
    """Its containers go on elsewhere; what they left is dropped when it is back."""
    scene.hosts[name].kill()
    scene.wait_for_state(name, "unavailable")
    scene.wait(lambda: scene.moved_from(name), scene.told)
    scene.hosts[name].boot()


def host_freezes_shortly(scene: Scene, name: str) -> None:
    """A hiccup: no machine moves, no process is ended."""
    before = scene.processes("lasting")
    with frozen(scene, name):
        threading.Event().wait(2)  # what is measured here is that nothing happens in such a time
    scene.wait_for_state(name, "ready")
    assert scene.processes("lasting") == before


def host_freezes_and_cannot_be_fenced(scene: Scene, name: str) -> None:
    """Without a proof nothing moves, however long it takes; thawed, it goes on as it was."""
    before = scene.processes("lasting")
    scene.permitted.unlink()
    with frozen(scene, name):
        scene.wait_for_state(name, "unreachable")
        scene.wait(
            lambda: all(
                machine["state"] == "unknown" for machine in scene.machines().values() if machine["node"] == name
            ),
            scene.told,
        )
    scene.permitted.touch()
    scene.wait_for_state(name, "ready")
    scene.wait(lambda: scene.processes("lasting") == before, lambda: f"{scene.processes('lasting')} not {before}")


def host_freezes_and_is_switched_off(scene: Scene, name: str) -> None:
    with frozen(scene, name):
        scene.wait_for_state(name, "unavailable")
    scene.hosts[name].boot()


def answers_are_lost(scene: Scene, name: str) -> None:
    """A partition one way: the node hears the controller, which does not hear it; its power controller ends the doubt."""
    host = scene.hosts[name]
    host.run("iptables -I OUTPUT -o eth0 -j DROP")
    scene.wait_for_state(name, "unavailable")
    host.boot()


def network_is_cut_and_heals(scene: Scene, name: str) -> None:
    """A partition both ways, and no proof to be had: nothing moves, nothing ends."""
    before = scene.processes("lasting")
    scene.permitted.unlink()
    host = scene.hosts[name]
    host.run("iptables -I INPUT -i eth0 -j DROP; iptables -I OUTPUT -o eth0 -j DROP")
    scene.wait_for_state(name, "unreachable")
    host.run("iptables -D INPUT -i eth0 -j DROP; iptables -D OUTPUT -o eth0 -j DROP")
    scene.permitted.touch()
    scene.wait_for_state(name, "ready")
    assert scene.processes("lasting") == before


def containers_cannot_be_started(scene: Scene, name: str) -> None:
    """The engine refuses every start for a moment, in which its machines die; they come back without a hand."""
    host = scene.hosts[name]
    runc = host.run("command -v runc").strip()
    host.run(f"mv {runc} {runc}.away")
    try:
        mine = [machine for machine, places in scene.processes("lasting").items() if places[0][0] == name]
        host.run(
            "for each in $(docker ps -q); do kill -9 $(docker inspect -f '{{.State.Pid}}' $each); done", check=False
        )
        scene.wait(lambda: not any(scene.runs_on(machine, name) for machine in mine), scene.told)
    finally:
        host.run(f"mv {runc}.away {runc}")


def node_is_drained_and_undrained(scene: Scene, name: str) -> None:
    """Somebody drains a node, and thinks better of it at once."""
    with suppress(GarbiError):
        scene.client().nodes.drain(name)
    scene.client().nodes.undrain(name)
    scene.wait_for_state(name, "ready")


def node_is_drained(scene: Scene, name: str) -> None:
    """What can move moves; afterwards the node takes machines again."""
    scene.client().nodes.drain(name)
    scene.wait(lambda: scene.moved_from(name), scene.told)
    scene.client().nodes.undrain(name)
    scene.wait_for_state(name, "ready")


TURNS: tuple[tuple[Turn, str], ...] = (
    (agent_dies, "n1"),
    (docker_dies, "n2"),
    (host_freezes_shortly, "n2"),
    (controller_dies, ""),
    (host_dies, "n1"),
    (libvirtd_dies, "n3"),
    (host_freezes_and_cannot_be_fenced, "n2"),
    (answers_are_lost, "n3"),
    (network_is_cut_and_heals, "n1"),
    (host_freezes_and_is_switched_off, "n3"),
    (controller_dies, ""),
)
"""Each kind of loss once, in an order in which one follows hard on another."""

KINDS: tuple[Turn, ...] = (
    agent_dies, docker_dies, docker_is_restarted, libvirtd_dies, controller_dies, host_dies, host_freezes_shortly,
    host_freezes_and_cannot_be_fenced, host_freezes_and_is_switched_off, answers_are_lost, network_is_cut_and_heals,
    containers_cannot_be_started, node_is_drained_and_undrained, node_is_drained,
)  # fmt: skip
"""What a storm is made of."""
