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


def _stop(controller: Controller, _orders: Orders) -> None:
    controller.machines.wish(VICTIM, Wish.STOPPED)


def _remove(controller: Controller, _orders: Orders) -> None:
    controller.machines.remove(VICTIM)


def _drain(controller: Controller, _orders: Orders) -> None:
    controller.nodes.drain(str(controller.machines.get(VICTIM).node))


def _join(controller: Controller, orders: Orders) -> None:
    controller.nodes.add(orders.spare, orders.token)


def _leave(controller: Controller, orders: Orders) -> None:
    controller.nodes.remove(orders.spare.name, force=True)


VERBS: dict[str, Callable[[Controller, Orders], None]] = {
    "create": _create, "stop": _stop, "remove": _remove, "drain": _drain, "join": _join, "leave": _leave,
}  # fmt: skip


def carry_out(orders: Orders) -> None:
    """Be the controller until all has come to rest, or until the place to die at."""
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
