"""Controllers that see nodes fall and come back, each a process of its own that dies where it is told to."""

from __future__ import annotations

import contextlib
import multiprocessing
from collections.abc import Iterator
from dataclasses import dataclass, replace
from multiprocessing.process import BaseProcess

from tests.iaas.clouds import LIMIT_S, Cloud, FakeHost, eventually, node_is
from tests.iaas.fencing import KillMachines

from garbi.base import failpoints
from garbi.base.failpoints import EXIT_CODE
from garbi.hyper_api.vocabulary import State
from garbi.iaas.main import open_controller
from garbi.iaas.model.node import NodeState
from garbi.iaas.settings import Settings


@dataclass(frozen=True, slots=True)
class Watch:
    """Be the controller that sees a node fall or come back, and die at `crash_at`; say of the node `gone` that it is dead."""

    settings: Settings
    fences: tuple[KillMachines, ...]
    crash_at: str
    gone: str = ""


def carry_out(watch: Watch) -> None:
    """Watch until the place to die at."""
    failpoints.arm(watch.crash_at)
    controller = open_controller(watch.settings, fences=watch.fences)
    try:
        if watch.gone:
            silent = NodeState.UNREACHABLE
            eventually("it is silent", lambda: controller.nodes.get(watch.gone).state is silent)
            controller.nodes.confirm_dead(watch.gone)
        eventually("the end", lambda: False)
    finally:
        controller.close()


@contextlib.contextmanager
def process(watch: Watch) -> Iterator[BaseProcess]:
    """A controller in a process of its own, forked from one that has imported everything."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.iaas.watches"])
    child = context.Process(target=carry_out, args=(watch,))
    child.start()
    try:
        yield child
    finally:
        child.kill()
        child.join()


class FallingStage:
    """Three nodes with a machine that goes round, each time that its node dies."""

    def __init__(self, cloud: Cloud, hosts: list[FakeHost]) -> None:
        self.cloud = cloud
        self.hosts = {host.name: host for host in hosts}
        self.fence = KillMachines({host.name: host.data_dir for host in hosts}, cloud.controller.cluster_id)
        cloud.settings = replace(cloud.settings, unreachable_after_s=2.0)
        cloud.fences = [self.fence]
        cloud.reopen()
        cloud.add(id="m", node="n1")

    def die_at(self, place: str, *, gone: str = "") -> None:
        """Let a controller work until it dies there."""
        fences = (self.fence,) if self.cloud.fences else ()
        with process(Watch(self.cloud.settings, fences, place, gone)) as child:
            child.join(LIMIT_S)
            assert child.exitcode == EXIT_CODE, place

    def home(self) -> FakeHost:
        """The host that has the machine now."""
        return self.hosts[str(self.cloud.controller.machines.get("m").node)]

    def check_moved_from(self, old: FakeHost) -> None:
        """It runs once, elsewhere."""

        def there() -> object:
            machine = self.cloud.controller.machines.get("m")
            return machine.state is State.RUNNING and machine.settled and machine.node != old.name

        eventually("it runs elsewhere", there, lambda: self.cloud.controller.machines.get("m"))
        assert old.running() == []
        assert self.home().running() == ["m"]

    def check_back(self, old: FakeHost) -> None:
        """Its old node takes machines again and has nothing left of it."""
        node_is(self.cloud, old.name, NodeState.READY)
        eventually("the copy is gone", lambda: old.client.machines.list() == [])
        self.cloud.sound()
