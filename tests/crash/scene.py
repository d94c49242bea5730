"""What an operation that is killed works with: one machine, the image that it is made from, and an image beside it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from garbi.base.errors import NotFound
from garbi.hyper.agent import Agent
from garbi.hyper.drivers.protocol import ImageFile
from garbi.hyper.model.machine import Machine, MachineSpec, PublishedPort, State, Wish

VICTIM, BYSTANDER = "victim", "bystander"
IMAGE, DEAF_IMAGE, SPARE_IMAGE = "ordinary", "deaf", "spare"
PATIENCE_S = 120.0
CHUNK = 1 << 20

STATES = {Wish.RUNNING: State.RUNNING, Wish.STOPPED: State.STOPPED, Wish.PAUSED: State.PAUSED}


@dataclass(frozen=True, slots=True)
class Scene:
    """The type of the machines, the content of each image by its name, and the port that the victim publishes."""

    type: str
    mem: int
    images: dict[str, ImageFile]
    port: int

    def spec(self, machine_id: str, image: str, wish: Wish = Wish.RUNNING) -> MachineSpec:
        """What is asked for; only the victim publishes a port."""
        ports = (PublishedPort(self.port, 80),) if machine_id == VICTIM else ()
        return MachineSpec(image=image, type=self.type, id=machine_id, mem=self.mem, ports=ports, state=wish)


def take_in(agent: Agent, scene: Scene, name: str) -> None:
    """Have the image of that name there."""
    content = scene.images[name]
    if not has_image(agent, name):
        agent.images.add(name, content.type, _chunks(content.path), content.sha256)


def has_image(agent: Agent, name: str) -> bool:
    return any(image.name == name for image in agent.images.list())


def find(agent: Agent, machine_id: str) -> Machine | None:
    """The machine of that id, if there is one."""
    try:
        return agent.machines.get(machine_id)
    except NotFound:
        return None


def all_settled(agent: Agent) -> None:
    """Wait until the host has done all that was wished, and all that the agent means to do by itself."""
    for machine in agent.machines.list():
        with agent.events.signal_of(machine.id) as changed:
            while (
                (present := agent.machines.wait_settled(machine.id, PATIENCE_S)) and present.awaits and not present.held
            ):
                assert changed.wait(PATIENCE_S), f"nothing becomes of it: {present}"
                changed.clear()
        assert present is None or present.settled, f"nothing becomes of it: {present}"


def bring(agent: Agent, scene: Scene, wish: Wish | None, image: str = IMAGE) -> None:
    """Have the victim there in the state that is wished, or not at all."""
    victim = find(agent, VICTIM)
    if wish is None:
        if victim is not None:
            agent.machines.remove(VICTIM)
    elif victim is None:
        agent.machines.add(scene.spec(VICTIM, image))
    elif victim.state is not STATES[wish]:
        agent.machines.wish(VICTIM, wish if victim.state is State.RUNNING else Wish.RUNNING)
    all_settled(agent)
    victim = find(agent, VICTIM)
    if wish is not None and victim is not None and victim.state is State.RUNNING and wish is not Wish.RUNNING:
        agent.machines.wish(VICTIM, wish)
        all_settled(agent)
    victim = find(agent, VICTIM)
    assert (victim and victim.state) == (wish and STATES[wish]), f"the scene cannot be set: {victim}"


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk
