"""A cloud of simulated hosts: the real controller and the real agents, started, killed and started again."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from tests.simulation.fencing import PROGRAM, PowerControl, SimSshFence, Ways
from tests.simulation.hosts import SimHost
from tests.simulation.kernel import Process
from tests.simulation.network import SimTransport
from tests.simulation.nodes import Hosts

from garbi.base.errors import GarbiError
from garbi.iaas.controller import Controller
from garbi.iaas.fences.power import PowerFence
from garbi.iaas.main import open_controller
from garbi.iaas.settings import Settings as ControllerSettings

T = TypeVar("T")


class Cut(Exception):
    """The controller died, or was not there, before it answered."""


@dataclass
class _Call(Generic[T]):
    result: T | None = None
    error: Exception | None = None
    done: bool = False
    ticket: Any = None


@dataclass
class Cloud(Hosts):
    """Everything that one run simulates."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.ways = Ways()
        self.power = PowerControl(self)
        self.controller: Controller | None = None
        self.controller_process: Process | None = None
        self.copy_process: Process | None = None
        self.on_controller: Callable[[Controller], None] = lambda _controller: None

    def start_controller(self) -> None:
        """Start the controller; nothing happens when it runs."""
        if self.controller_process is not None and self.controller_process.alive:
            return
        process = self.controller_process = self.home.process("controller")
        process.spawn("main", self._open_controller)

    def kill_controller(self) -> None:
        """End the controller's process."""
        if self.controller_process is not None:
            self.controller = None
            self.controller_process.kill()

    def _open_controller(self) -> None:
        self.controller = self._controller_at(self.home, self.controller_settings())
        self.on_controller(self.controller)
        self.kernel.note("the controller works")

    def start_copy(self, data_dir: Path) -> None:
        """Start another controller on a host of its own, which nobody asks anything."""
        host = self._host("other-home", "10.0.0.101")
        settings = replace(self.controller_settings(), data_dir=data_dir)
        self.copy_process = host.process("controller")
        self.copy_process.spawn("main", lambda: self._controller_at(host, settings))

    def kill_copy(self) -> None:
        """End it."""
        if self.copy_process is not None:
            self.copy_process.kill()

    def _controller_at(self, host: SimHost, settings: ControllerSettings) -> Controller:
        return open_controller(
            settings,
            clock=host.clock,
            transports=lambda url: SimTransport(self.network, host.name, url),
            fences=self.fences(),
        )

    def controller_id(self) -> str:
        """The id of the cloud."""
        assert self.controller is not None
        return self.controller.cluster_id

    def controller_settings(self) -> ControllerSettings:
        """How the controller of this run is set."""
        return ControllerSettings(
            copy_period_s=0,
            data_dir=self.root / "controller",
            check_period_s=self.pace.check_s,
            unreachable_after_s=self.pace.unreachable_s,
            audit_period_s=self.pace.audit_s,
            lease_ttl_s=self.pace.ttl_s,
            lease_margin_s=self.pace.margin_s,
            workers=2,
        )

    def fences(self) -> list[Any]:
        """The proofs that the controller of this run may get, beside that of leases."""
        return [SimSshFence(self, self.controller_id), PowerFence(PROGRAM)] if self.ways_in else []

    def ask(self, work: Callable[[Controller], T], limit_s: float = 60.0) -> T:
        """Have the controller do something for the present task; raises its error, or Cut when it dies under it."""
        process, controller = self.controller_process, self.controller
        if process is None or controller is None or not process.alive:
            raise Cut
        call: _Call[T] = _Call()
        call.ticket = self.kernel.ticket()

        def serve() -> None:
            try:
                call.result = work(controller)
            except GarbiError as error:
                call.error = error
            call.done = True
            process.at_death.pop(id(call), None)
            self.kernel.wake(*call.ticket)

        process.at_death[id(call)] = lambda: self.kernel.wake(*call.ticket)
        process.spawn("request", serve)
        self.kernel.block(limit_s)
        if call.error is not None:
            raise call.error
        if not call.done:
            self.kernel.note("cut")
            raise Cut
        return call.result  # type: ignore[return-value]

    def try_to_ask(self, work: Callable[[Controller], object]) -> bool:
        """Have the controller do something if it is there and able to; whether it was."""
        try:
            self.ask(work)
        except (Cut, GarbiError):
            return False
        return True

    def close(self) -> None:
        """Forget the run and its files."""
        for host in self.network.machines.values():
            for process in host.processes:
                process.kill()
        shutil.rmtree(self.root, ignore_errors=True)
