"""Controllers in this process that share a database, and what is waited for of them."""

from __future__ import annotations

from pathlib import Path

from tests.iaas.clouds import LIMIT_S, FakeHost, eventually

from garbi.iaas.controller import Controller
from garbi.iaas.main import open_controller
from garbi.iaas.model.machine import Machine
from garbi.iaas.model.node import NodeState
from garbi.iaas.settings import Settings


class Controllers:
    """Controllers on one database; each has a data directory of its own, called after its number."""

    def __init__(self, root: Path, url: str) -> None:
        self._root = root
        self._url = url
        self._open: list[Controller] = []
        self._number = 0

    def open(self, image_dir: str = "", *, after_restore: bool = False) -> Controller:
        """One more."""
        self._number += 1
        settings = Settings(
            data_dir=self._root / f"c{self._number}",
            database=self._url,
            check_period_s=0.5,
            unreachable_after_s=3.0,
            audit_period_s=0,
            image_dir=image_dir,
        )
        self._open.append(open_controller(settings, after_restore=after_restore))
        return self._open[-1]

    def close(self) -> None:
        while self._open:
            self._open.pop().close()


def join(controller: Controller, host: FakeHost) -> None:
    """Make a host a node, by way of that controller."""
    controller.nodes.add(host.spec(), host.token)
    eventually(
        f"{host.name} ready",
        lambda: controller.nodes.get(host.name).state is NodeState.READY,
        lambda: controller.nodes.get(host.name),
    )


def settled(controller: Controller, machine_id: str) -> Machine:
    """The machine, once it has settled, as that controller hears of it."""
    machine = controller.machines.wait_settled(machine_id, LIMIT_S)
    assert machine is not None
    assert machine.settled, machine
    return machine


def leads(controller: Controller) -> None:
    """Wait until a controller leads."""
    eventually("it leads", lambda: controller.leadership.leads)


def follows(controller: Controller) -> None:
    """Wait until a controller leads no more."""
    eventually("it follows", lambda: not controller.leadership.leads)
