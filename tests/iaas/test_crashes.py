"""The controller dies at each place that an operation passes; the next one brings everything to an end without a human."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from tests.iaas.clouds import LIMIT_S, Cloud, FakeHost
from tests.iaas.victim import BYSTANDER, VICTIM, Orders, process, wait_for_rest

from garbi.base.failpoints import EXIT_CODE
from garbi.hyper_api.vocabulary import State, Wish
from garbi.iaas.model.node import NodeState

MakeNodes = Callable[..., list[FakeHost]]

LEAST = {
    "create": {"placement.accept.written", "machine.create.begun", "machine.create.done", "machine.running.recorded"},
    "stop": {"machine.wish.recorded", "machine.tell.done", "machine.stopped.recorded"},
    "remove": {"machine.remove.begun", "machine.remove.done", "machine.removed.recorded"},
    "drain": {"operation.node-drain.1.begun", "drain.removed", "drain.moved", "operation.node-drain.recorded"},
    "join": {"node.add.recorded", "operation.node-add.2.begun", "operation.node-add.2.done", "operation.node-add.recorded"},
    "leave": {"node.remove.recorded", "operation.node-remove.1.begun", "operation.node-remove.2.done"},
}  # fmt: skip
"""Places that an operation must pass, so that the matrix does not shrink unseen."""


class Stage:
    """Two nodes with a machine beside the victim, and a host that is a node only where the operation wants it to be."""

    def __init__(self, cloud: Cloud, operation: str) -> None:
        self.cloud = cloud
        self.operation = operation
        self.spare = cloud.host()
        cloud.add(id=BYSTANDER, node="n1")
        self.run_of_bystander = self._bystander()

    def prepare(self) -> None:
        """Bring everything to where the operation begins."""
        cloud, wanted = self.cloud, self.operation not in ("create", "join", "leave")
        controller = cloud.controller
        for node in controller.nodes.list():
            if node.state is NodeState.DRAINING:
                controller.nodes.undrain(node.name)
        there = VICTIM in cloud.ids()
        if there and (not wanted or not self._is_in_place()):
            controller.machines.remove(VICTIM)
            cloud.gone(VICTIM)
            there = False
        if wanted and not there:
            cloud.add(id=VICTIM, node="n2")
        is_node = self.spare.name in [node.name for node in controller.nodes.list()]
        if self.operation == "leave" and not is_node:
            cloud.join(self.spare)
            cloud.add(id=VICTIM, node=self.spare.name)
        elif self.operation != "leave" and is_node:
            cloud.finished(controller.nodes.remove(self.spare.name, force=True))
        wait_for_rest(controller)
        cloud.close_controller()

    def _is_in_place(self) -> bool:
        victim = self.cloud.controller.machines.get(VICTIM)
        return (victim.state, victim.node) == (State.RUNNING, "n2")

    def run(self, crash_at: str) -> tuple[int | None, bool, list[str]]:
        """Do the operation in another process, which may die; return how it ended, whether it answered, what it passed."""
        visited, answered = (self.cloud.root / name for name in ("visited", "answered"))
        for paper in (visited, answered):
            paper.unlink(missing_ok=True)
        orders = Orders(
            self.cloud.settings, self.operation, crash_at, visited, answered, self.spare.spec(), self.spare.token
        )
        with process(orders) as child:
            child.join(LIMIT_S)
            code = child.exitcode
        places = visited.read_text().splitlines() if visited.exists() else []
        return code, answered.exists(), list(dict.fromkeys(places))

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
        if self.operation in ("drain", "create") and VICTIM in known:
            assert known[VICTIM].state is State.RUNNING
        assert self._bystander() == self.run_of_bystander

    def _is_done(self) -> bool:
        controller = self.cloud.controller
        nodes = {node.name: node for node in controller.nodes.list()}
        known = {machine.id: machine for machine in controller.machines.list()}
        match self.operation:
            case "create":
                return VICTIM in known
            case "stop":
                return known[VICTIM].wish is Wish.STOPPED and known[VICTIM].state is State.STOPPED
            case "remove":
                return VICTIM not in known
            case "drain":
                return known[VICTIM].node == "n1" and nodes["n2"].state is NodeState.DRAINING
            case "join":
                return nodes.get(self.spare.name) is not None and nodes[self.spare.name].state is NodeState.READY
            case _:
                return self.spare.name not in nodes

    def _bystander(self) -> list[int]:
        return [
            machine.power_ons
            for host in self.cloud.hosts
            for machine in host.world.machines()
            if machine.id == BYSTANDER
        ]


@pytest.mark.parametrize("operation", LEAST)
def test_a_controller_that_dies_anywhere_leaves_nothing_undone(
    cloud: Cloud, fake_nodes: MakeNodes, operation: str
) -> None:
    fake_nodes(2)
    stage = Stage(cloud, operation)
    stage.prepare()
    code, answered, places = stage.run("")
    assert (code, answered) == (0, True)
    assert LEAST[operation] <= set(places)
    stage.check(answered=True)
    for place in places:
        stage.prepare()
        code, answered, visited = stage.run(place)
        assert code == EXIT_CODE or place not in visited, f"{place} was passed alive: {code}"
        stage.check(answered)
    assert threading.active_count() < 100
