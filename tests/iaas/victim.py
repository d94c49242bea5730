"""The process that is killed: a controller that does one operation on the nodes of a test, until all has come to rest."""

from __future__ import annotations

import contextlib
import multiprocessing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

from tests.iaas.clouds import eventually, machine_spec

from garbi.base import failpoints
from garbi.hyper_api.vocabulary import Wish
from garbi.iaas.controller import Controller
from garbi.iaas.main import open_controller
from garbi.iaas.model.node import NodeSpec
from garbi.iaas.model.operation import OperationState
from garbi.iaas.settings import Settings

VICTIM, BYSTANDER = "victim", "bystander"
PICTURE = "picture"
"""An image of which the controller has the content."""

WRONG_TOKEN = "0" * 64
RECOVERY = ""
"""The operation of a controller that only takes up what was begun; it may die while it opens, too."""


@dataclass(frozen=True, slots=True)
class Orders:
    """What to do and where to die. `answered` is made when the verb has returned."""

    settings: Settings
    operation: str
    crash_at: str
    visited: Path
    answered: Path
    spare: NodeSpec
    token: str


def _create(controller: Controller, _orders: Orders) -> None:
    controller.machines.add(machine_spec(id=VICTIM))


def _create_from_image(controller: Controller, _orders: Orders) -> None:
    controller.machines.add(machine_spec(id=VICTIM, image=PICTURE))


def _refuse(controller: Controller, _orders: Orders) -> None:
    """Its node has a machine of that id, which somebody else made there."""
    controller.machines.add(machine_spec(id=VICTIM, node="n1"))


def _stop(controller: Controller, _orders: Orders) -> None:
    controller.machines.wish(VICTIM, Wish.STOPPED)


def _remove(controller: Controller, _orders: Orders) -> None:
    controller.machines.remove(VICTIM)


def _drain(controller: Controller, _orders: Orders) -> None:
    controller.nodes.drain("n2")


def _undrain(controller: Controller, _orders: Orders) -> None:
    controller.nodes.undrain("n2")


def _join(controller: Controller, orders: Orders) -> None:
    controller.nodes.add(orders.spare, orders.token)


def _join_in_vain(controller: Controller, orders: Orders) -> None:
    controller.nodes.add(orders.spare, WRONG_TOKEN)


def _leave(controller: Controller, orders: Orders) -> None:
    controller.nodes.remove(orders.spare.name, force=True)


VERBS: dict[str, Callable[[Controller, Orders], None]] = {
    "create": _create, "create-from-image": _create_from_image, "refuse": _refuse, "stop": _stop, "remove": _remove,
    "drain": _drain, "undrain": _undrain, "join": _join, "join-in-vain": _join_in_vain, "leave": _leave, "forget": _leave,
}  # fmt: skip


def carry_out(orders: Orders) -> None:
    """Be the controller until all has come to rest, or until the place to die at."""
    if orders.operation == RECOVERY:
        failpoints.arm(orders.crash_at, str(orders.visited))
        controller = open_controller(orders.settings)
    else:
        controller = open_controller(orders.settings)
        failpoints.arm(orders.crash_at, str(orders.visited))
        VERBS[orders.operation](controller, orders)
        orders.answered.touch()
    wait_for_rest(controller)
    controller.close()


def wait_for_rest(controller: Controller) -> None:
    """Wait until no machine and no operation is under way."""

    def busy() -> list[object]:
        operations = controller.operations.list({"state": OperationState.RUNNING.value})
        return [*(each for each in controller.machines.list() if not each.settled), *operations]

    eventually("rest", lambda: not busy(), busy)


@contextlib.contextmanager
def process(orders: Orders) -> Iterator[BaseProcess]:
    """The process that carries out the orders, forked from one that has imported everything."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.iaas.victim"])
    child = context.Process(target=carry_out, args=(orders,))
    child.start()
    try:
        yield child
    finally:
        child.kill()
        child.join()
