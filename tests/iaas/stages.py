"""Where controllers are killed: two nodes with a machine beside the victim, and a host that is a node only where it has to be."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from tests.iaas.clouds import LIMIT_S, Cloud
from tests.iaas.victim import BYSTANDER, PICTURE, RECOVERY, VICTIM, WRONG_TOKEN, Orders, process, wait_for_rest

from garbi.hyper.model.machine import MachineSpec as HostMachineSpec
from garbi.hyper.model.machine import Wish as HostWish
from garbi.hyper_api.vocabulary import ImageType, State, Wish
from garbi.iaas.model.node import NodeState
from garbi.iaas.model.operation import OperationState

LEAST: Mapping[str, frozenset[str]] = {
    "create": frozenset({
        "placement.accept.reserved", "store.machine.inserted", "placement.accept.written", "machine.add.recorded",
        "machine.create.begun", "machine.create.done", "machine.running.recorded",
    }),
    "create-from-image": frozenset({"machine.distribute.begun", "machine.distribute.done", "machine.create.done"}),
    "refuse": frozenset({"machine.create.begun", "machine.given-up.recorded"}),
    "stop": frozenset({"machine.wish.recorded", "machine.tell.done", "machine.stopped.recorded"}),
    "remove": frozenset({
        "machine.wish.recorded", "machine.remove.begun", "machine.remove.done", "store.machine.deleted",
        "machine.removed.recorded",
    }),
    "drain": frozenset({
        "node.drain.recorded", "operation.node-drain.1.begun", "drain.leaving.recorded", "machine.leave.begun",
        "machine.leave.done", "machine.vacated.recorded", "failover.planned", "failover.move.reserved",
        "store.machine.moved", "failover.move.recorded", "operation.node-drain.1.done", "operation.node-drain.recorded",
    }),
    "undrain": frozenset({"node.undrain.recorded"}),
    "join": frozenset({
        "node.add.recorded", "operation.node-add.2.begun", "operation.node-add.2.done", "operation.node-add.recorded",
    }),
    "join-in-vain": frozenset({"node.add.recorded", "operation.node-add.2.begun", "operation.node-add.failed"}),
    "leave": frozenset({"node.remove.recorded", "operation.node-remove.1.begun", "operation.node-remove.2.done"}),
    "forget": frozenset({"node.remove.recorded", "node.forget.recorded", "operation.node-remove.recorded"}),
}  # fmt: skip
"""Places that each operation must pass, so that the matrix does not shrink unseen."""

HERE = ("stop", "remove", "drain", "undrain")
"""The operations that begin with a victim that runs."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a process ended: its exit code, whether the verb had returned, the places that it passed, in order."""

    code: int | None
    answered: bool
    visited: list[str]


class Stage:
    """One operation's cloud, brought again and again to where the operation begins."""

    def __init__(self, cloud: Cloud, operation: str) -> None:
        self.cloud = cloud
        self.operation = operation
        self.spare = cloud.host()
        cloud.add(id=BYSTANDER, node="n1")
        if operation == "refuse":
            taken = HostMachineSpec(image="any", type="fake", id=VICTIM, mem=16, state=HostWish.STOPPED)
            cloud.hosts[0].agent.machines.add(taken)
        if operation == "create-from-image":
            content = bytes(1 << 16)
            cloud.controller.images.register(PICTURE, ImageType.RAW)
            cloud.controller.images.receive(PICTURE, 0, [content], hashlib.sha256(content).hexdigest())
        self.run_of_bystander = self._bystander()

    def prepare(self) -> None:
        """Bring everything to where the operation begins; no controller works then."""
        cloud, controller = self.cloud, self.cloud.controller
        for node in controller.nodes.list():
            if node.state is NodeState.DRAINING:
                controller.nodes.undrain(node.name)
        self._prepare_victim()
        self._prepare_spare()
        if self.operation == "undrain":
            drained = cloud.finished(controller.nodes.drain("n2"))
            assert drained.state is OperationState.DONE, drained
        if self.operation == "create-from-image":
            for host in cloud.hosts[:2]:
                for image in host.agent.images.list():
                    host.agent.images.remove(image.name)
        wait_for_rest(controller)
        cloud.close_controller()

    def _prepare_victim(self) -> None:
        cloud, wanted = self.cloud, self.operation in HERE
        there = VICTIM in cloud.ids()
        if there and not (wanted and self._is_in_place()):
            cloud.controller.machines.remove(VICTIM)
            cloud.gone(VICTIM)
            there = False
        if wanted and not there:
            cloud.add(id=VICTIM, node="n2")

    def _is_in_place(self) -> bool:
        victim = self.cloud.controller.machines.get(VICTIM)
        return (victim.state, victim.node) == (State.RUNNING, "n2")

    def _prepare_spare(self) -> None:
        cloud, controller = self.cloud, self.cloud.controller
        is_node = self.spare.name in [node.name for node in controller.nodes.list()]
        if is_node and self.operation not in ("leave", "forget"):
            cloud.finished(controller.nodes.remove(self.spare.name, force=True))
        elif self.operation == "leave" and not is_node:
            cloud.join(self.spare)
            cloud.add(id=VICTIM, node=self.spare.name)
        elif self.operation == "forget" and not is_node:
            cloud.finished(controller.nodes.add(self.spare.spec(), WRONG_TOKEN))

    def run(self, crash_at: str, *, recover: bool = False) -> Ending:
        """Let another process be the controller, do the operation or only recover, and perhaps die on the way."""
        visited, answered = (self.cloud.root / name for name in ("visited", "answered"))
        for paper in (visited, answered):
            paper.unlink(missing_ok=True)
        operation = RECOVERY if recover else self.operation
        orders = Orders(
            self.cloud.settings, operation, crash_at, visited, answered, self.spare.spec(), self.spare.token
        )
        with process(orders) as child:
            child.join(LIMIT_S)
            code = child.exitcode
        places = visited.read_text().splitlines() if visited.exists() else []
        return Ending(code, answered.exists(), places)

    def check(self, answered: bool) -> None:
        """All came to an end: what was answered is done, what was not is done or was never begun, and nothing is left over."""
        cloud, controller = self.cloud, self.cloud.controller
        wait_for_rest(controller)
        cloud.sound()
        done = self._is_done()
        assert done or not answered
        runs = [host.name for host in cloud.hosts if VICTIM in host.running()]
        assert len(runs) <= 1
        known = {machine.id: machine for machine in controller.machines.list()}
        assert (VICTIM in known and known[VICTIM].state is State.RUNNING) == bool(runs)
        if self.operation in ("drain", "undrain", "create", "create-from-image") and VICTIM in known:
            assert known[VICTIM].state is State.RUNNING
        if self.operation in HERE and self.operation != "remove":
            assert VICTIM in known
        assert self._bystander() == self.run_of_bystander

    def _is_done(self) -> bool:
        controller = self.cloud.controller
        nodes = {node.name: node.state for node in controller.nodes.list()}
        victim = next((machine for machine in controller.machines.list() if machine.id == VICTIM), None)
        there, spare = victim is not None, nodes.get(self.spare.name)
        done = {
            "create": there,
            "create-from-image": there,
            "refuse": victim is not None and victim.refused and victim.state is State.FAILED,
            "stop": victim is not None and (victim.wish, victim.state) == (Wish.STOPPED, State.STOPPED),
            "remove": not there,
            "drain": victim is not None and victim.node == "n1" and nodes["n2"] is NodeState.DRAINING,
            "undrain": nodes["n2"] is NodeState.READY,
            "join": spare is NodeState.READY,
            "join-in-vain": spare is NodeState.FAILED,
            "leave": spare is None,
            "forget": spare is None,
        }
        return done[self.operation]

    def _bystander(self) -> list[int]:
        return [
            machine.power_ons
            for host in self.cloud.hosts
            for machine in host.world.machines()
            if machine.id == BYSTANDER
        ]
