"""What a seed would meet once in many days, told step by step: a message that is obsolete when it comes, one controller too many.

Nothing of it does any harm; where a fault is planted that lets it, it does.
"""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.simulation.chaos import Chaos
from tests.simulation.cloud import Cloud
from tests.simulation.network import CONNECT_S, Conversation
from tests.simulation.nodes import Node
from tests.simulation.threads import Event
from tests.simulation.user import Owned, User

from garbi.base.http import Request
from garbi.hyper_api.vocabulary import NodeFailurePolicy, RestartPolicy, State, Wish
from garbi.iaas.controller import Controller
from garbi.iaas.model.machine import Machine, MachineSpec
from garbi.iaas.model.node import NodeState

CALM_S = 300.0
"""After this long all that was asked has been done, and nothing excuses a machine that ends."""

LIMIT_S = 1800.0
MOMENT_S = 0.01


@dataclass
class Scene:
    """The cloud of a script, and one machine in it."""

    cloud: Cloud
    user: User
    chaos: Chaos
    copies: list[Conversation] = field(default_factory=list)

    def machine(self, node: str, policy: NodeFailurePolicy = NodeFailurePolicy.RECREATE) -> str:
        """A machine that runs on a node, and may be created again elsewhere unless its policy says otherwise."""
        made = self.asked_for(node, policy)
        self.until(lambda: self.row(made).state is State.RUNNING)
        return made

    def asked_for(self, node: str, policy: NodeFailurePolicy = NodeFailurePolicy.RECREATE) -> str:
        """The same, which was promised only."""
        spec = MachineSpec(
            image="any", type="fake", mem=128, node=node, restart=RestartPolicy.NO, on_node_failure=policy
        )
        made = self.cloud.ask(lambda controller: controller.machines.add(spec, f"script-{policy}"))
        self.user.machines[made.id] = Owned(made.id, spec, asked_at=self.cloud.kernel.now)
        return made.id

    def wish(self, machine_id: str, wish: Wish) -> None:
        """Ask for a machine to run or to stop, and wait until it does."""
        owned = self.user.machines[machine_id]
        owned.wish, owned.asked_at, owned.rests = wish, self.cloud.kernel.now, False
        self.cloud.ask(lambda controller: controller.machines.wish(machine_id, wish))
        self.until(lambda: self.row(machine_id).settled)

    def row(self, machine_id: str) -> Machine:
        """What the controller says of a machine."""
        return self._controller().machines.get(machine_id)

    def lease(self, name: str) -> int:
        """The number of a node's lease, as the controller has it."""
        return self._controller().nodes.get(name).lease

    def until(self, holds: Callable[[], bool]) -> None:
        """Let time pass until something holds; that it never does is a violation."""
        deadline = self.cloud.kernel.now + LIMIT_S
        while self.cloud.controller is None or not holds():
            if self.cloud.kernel.now >= deadline:
                self.cloud.kernel.violate("the script does not go on")
                return
            self.cloud.kernel.sleep(1.0)

    def ready(self, *names: str) -> None:
        """Wait until these nodes, or all, take machines."""
        wanted = names or tuple(self.cloud.nodes)
        self.until(lambda: all(self._controller().nodes.get(name).state is NodeState.READY for name in wanted))

    def keep(self, method: str, name: str, what: str) -> None:
        """Keep a copy of each message of that kind to a node, from now on."""

        def fits(target: str, request: Request) -> bool:
            return (request.method, target) == (method, name) and what in request.target

        self.copies.clear()
        self.cloud.network.keep = lambda talk: self.copies.append(talk) if fits(talk.target, talk.request) else None

    def come_late(self, number: int = -1) -> None:
        """Let a copy arrive now, and a while pass."""
        self.cloud.network.keep = None
        self.copies[number].arrive_again()
        self.cloud.kernel.sleep(CALM_S)

    def restart_controller(self) -> None:
        """Kill the controller; the next one begins another term."""
        self.cloud.kill_controller()
        self.cloud.kernel.sleep(1.0)
        self.cloud.start_controller()
        self.until(lambda: self.cloud.controller is not None)

    def cut(self, name: str) -> None:
        """Cut a host off from the controller, both ways."""
        home = self.cloud.home.name
        self.chaos.troubled[name] = self.cloud.kernel.now + LIMIT_S
        self.cloud.network.cut |= {(home, name), (name, home)}

    def expect(self, machine_id: str, *names: str) -> None:
        """A machine runs on one of these nodes, and its controller knows it."""
        row, places = self.row(machine_id), [host.name for host in self.cloud.worlds.places_of(machine_id)]
        if row.state is not State.RUNNING or row.node not in names or places != [row.node]:
            self.cloud.kernel.violate(
                f"machine {machine_id} is {row.state} on {row.node} ({row.reason}), and on {places}"
            )

    def _controller(self) -> Controller:
        assert self.cloud.controller is not None
        return self.cloud.controller


def removal_of_a_former_controller(scene: Scene) -> None:
    """A controller that drains a node dies with its order on the way; the next one has a database that knows of no drain."""
    machine, cloud = scene.machine("n2"), scene.cloud
    cloud.kill_controller()
    shutil.copytree(cloud.root / "controller", cloud.root / "before")
    cloud.start_controller()
    scene.until(lambda: cloud.controller is not None)
    scene.ready()
    scene.keep("DELETE", "n2", machine)
    lose_what_is_kept(scene, "n2")
    cloud.ask(lambda controller: controller.nodes.drain("n2"))
    scene.until(lambda: bool(scene.copies))
    cloud.kill_controller()
    shutil.rmtree(cloud.root / "controller")
    shutil.copytree(cloud.root / "before", cloud.root / "controller")
    cloud.start_controller()
    scene.until(lambda: cloud.controller is not None)
    scene.restart_controller()  # the term of the one before was that of the former one
    cloud.network.cut.clear()
    scene.ready()
    cloud.kernel.sleep(CALM_S)
    scene.come_late(0)
    scene.expect(machine, "n2")


def lose_what_is_kept(scene: Scene, name: str) -> None:
    """Cut the controller off from a node as soon as a message is kept, so that it does not arrive."""
    network = scene.cloud.network
    keep = network.keep
    assert keep is not None

    def lose(talk: Conversation) -> None:
        keep(talk)
        if scene.copies:
            network.cut.add((scene.cloud.home.name, name))
            network.keep = None

    network.keep = lose


def removal_of_an_earlier_assignment(scene: Scene) -> None:
    """A machine is moved away and comes back; then the order comes once more that removed it the first time."""
    machine = scene.machine("n2")
    scene.keep("DELETE", "n2", machine)
    for away, back in (("n2", "n1"), ("n1", "n2")):
        others = [name for name in scene.cloud.nodes if name not in (away, back)]
        for name in (*others, away):
            scene.cloud.worlds.expect_drain(scene.cloud.nodes[name].host)
            scene.cloud.ask(lambda controller, name=name: controller.nodes.drain(name))  # type: ignore[misc]
        scene.until(lambda back=back: (scene.row(machine).node, scene.row(machine).settled) == (back, True))  # type: ignore[misc]
        scene.cloud.kernel.sleep(CALM_S)
        for name in (*others, away):
            scene.cloud.ask(lambda controller, name=name: controller.nodes.undrain(name))  # type: ignore[misc]
        scene.ready()
    epoch = scene.row(machine).epoch
    scene.come_late(0)
    scene.expect(machine, "n2")
    if scene.row(machine).epoch != epoch:
        scene.cloud.kernel.violate(f"I11 machine {machine} was removed by an earlier order, and made again")


def order_that_comes_after_a_move(scene: Scene) -> None:
    """The order to make a machine is lost on its way to a node that is drained; it comes when the machine is elsewhere."""
    way = (scene.cloud.home.name, "n1")
    scene.keep("POST", "n1", "/hyper/machines")
    scene.cloud.network.cut.add(way)
    machine, asked_at = scene.asked_for("n1"), scene.cloud.kernel.now
    scene.cloud.ask(lambda controller: controller.nodes.drain("n1"))
    scene.cloud.kernel.sleep(asked_at + CONNECT_S - MOMENT_S - scene.cloud.kernel.now)
    # Just before the order is given up, and the drain has the machine in its hands.
    scene.cloud.network.cut.discard(way)
    scene.until(lambda: scene.row(machine).node != "n1" and scene.row(machine).settled)
    scene.come_late(0)
    scene.cloud.ask(lambda controller: controller.nodes.undrain("n1"))
    scene.expect(machine, "n2", "n3", "n4")


def order_that_was_followed_by_a_later_one(scene: Scene) -> None:
    """A machine is told to run, then to stop; then the first of the two orders comes once more."""
    machine = scene.machine("n1")
    scene.wish(machine, Wish.STOPPED)
    scene.keep("PUT", "n1", machine)
    scene.wish(machine, Wish.RUNNING)
    scene.wish(machine, Wish.STOPPED)
    scene.cloud.kernel.sleep(CALM_S)
    scene.come_late(0)
    if scene.row(machine).state is not State.STOPPED or scene.cloud.worlds.places_of(machine):
        scene.cloud.kernel.violate(f"I11 machine {machine} was told to stop, and is {scene.row(machine).state}")


def order_under_an_earlier_lease(scene: Scene) -> None:
    """A lease ends, under the next one its machine is told to run again; then the order of its first start comes once more."""
    machine = scene.machine("n1")
    scene.wish(machine, Wish.STOPPED)
    scene.keep("PUT", "n1", machine)
    scene.wish(machine, Wish.RUNNING)
    end_lease(scene, "n1")
    scene.until(lambda: bool(scene.cloud.worlds.places_of(machine)))
    scene.cloud.kernel.sleep(CALM_S)
    scene.come_late(0)
    scene.expect(machine, "n1")


def renewal_of_an_earlier_lease(scene: Scene) -> None:
    """A lease ends and the next begins; then a renewal of the first one comes once more."""
    machine = scene.machine("n1")
    scene.keep("PUT", "n1", "/hyper/leases/")
    end_lease(scene, "n1")
    scene.until(lambda: bool(scene.cloud.worlds.places_of(machine)))
    scene.cloud.kernel.sleep(CALM_S)
    scene.come_late(0)
    scene.expect(machine, "n1")


def renewal_of_a_former_controller(scene: Scene) -> None:
    """A host is cut off whose lease ends by itself; the last that it hears is the first renewal of the controller before."""
    machine = scene.machine("n1")
    scene.keep("PUT", "n1", "/hyper/leases/")
    for _ in range(2):
        scene.restart_controller()
        armed(scene)
    scene.cut("n1")
    scene.cloud.kernel.sleep(scene.cloud.pace.check_s)
    scene.come_late(0)
    scene.until(lambda: scene.row(machine).node != "n1" and scene.row(machine).settled)
    scene.cloud.kernel.sleep(CALM_S)


def node_that_comes_back(scene: Scene) -> None:
    """A host loses its power and comes back after its machine was created again elsewhere."""
    machine = scene.machine("n1")
    armed(scene)
    scene.cloud.kill_host(scene.cloud.nodes["n1"])
    scene.until(lambda: scene.row(machine).node != "n1" and scene.row(machine).settled)
    scene.cloud.boot_host(scene.cloud.nodes["n1"])
    scene.ready("n1")
    scene.cloud.kernel.sleep(CALM_S)


def two_copies_of_a_database(scene: Scene) -> None:
    """Somebody starts a controller from a copy of the database, in the same term; it reaches a host that the other does not."""
    cloud, machine = scene.cloud, scene.machine("n1")
    cloud.kill_controller()
    shutil.copytree(cloud.root / "controller", cloud.root / "copy")
    cloud.start_controller()
    scene.until(lambda: cloud.controller is not None)
    armed(scene)
    cloud.start_copy(cloud.root / "copy")
    cloud.kernel.sleep(CALM_S)
    scene.cut("n1")
    scene.until(lambda: scene.row(machine).node != "n1" and scene.row(machine).settled)
    cloud.kernel.sleep(CALM_S)
    cloud.kill_copy()


def end_lease(scene: Scene, name: str) -> None:
    """Run `hyper fence` on a host, as a controller does that dies before it writes down what follows."""
    node, number = scene.cloud.nodes[name], scene.lease(name)
    scene.cloud.run_fence(node, scene.cloud.controller_id(), number, 60.0, Event())
    scene.until(lambda: scene.lease(name) > number)


def armed(scene: Scene) -> None:
    """Wait until the lease of each node ends by itself, and its present controller counts on it."""

    def is_armed(node: Node) -> bool:
        agent = node.agent
        return agent is not None and any(each.lease.armed for each in agent.leases.all())

    scene.cloud.kernel.sleep(4 * scene.cloud.pace.check_s)
    scene.until(lambda: all(is_armed(node) for node in scene.cloud.nodes.values()))
    scene.cloud.kernel.sleep(4 * scene.cloud.pace.check_s)


SCRIPTS: Mapping[str, Callable[[Scene], None]] = {
    each.__name__.replace("_", "-"): each
    for each in (
        removal_of_a_former_controller,
        removal_of_an_earlier_assignment,
        order_that_comes_after_a_move,
        order_that_was_followed_by_a_later_one,
        order_under_an_earlier_lease,
        renewal_of_an_earlier_lease,
        renewal_of_a_former_controller,
        node_that_comes_back,
        two_copies_of_a_database,
    )
}
"""By name."""


def find_scripts() -> dict[str, Callable[[Scene], None]]:
    """Every script: those of each module here whose name ends with `scripts`, in its constants named so."""
    found: dict[str, Callable[[Scene], None]] = {}
    for path in sorted(Path(__file__).parent.glob("*scripts.py")):
        module = importlib.import_module(f"tests.simulation.{path.stem}")
        for name, value in vars(module).items():
            if name.endswith("SCRIPTS"):
                found |= value
    return found
