"""The controller dies at each place of a failover; the next one brings it to the same end, and no machine ever runs twice."""

from __future__ import annotations

import contextlib
import multiprocessing
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from tests.iaas.clouds import LIMIT_S, Cloud, FakeHost, eventually, node_is
from tests.iaas.fencing import KillMachines

from garbi.base import failpoints
from garbi.base.failpoints import EXIT_CODE
from garbi.hyper_api.vocabulary import State
from garbi.iaas.main import open_controller
from garbi.iaas.model.node import NodeState
from garbi.iaas.settings import Settings

MakeNodes = Callable[..., list[FakeHost]]

FALLING = (
    "node.unreachable.recorded",
    "failover.fence.begun",
    "failover.fence.done",
    "failover.dead.recorded",
    "failover.planned",
    "failover.move.reserved",
    "failover.move.recorded",
    "failover.explained",
)
RETURNING = ("returning.ordered", "node.returned.recorded")


@dataclass(frozen=True, slots=True)
class Watch:
    """Be the controller that sees a node fall or come back, and die at `crash_at`."""

    settings: Settings
    fence: KillMachines
    crash_at: str


def carry_out(watch: Watch) -> None:
    """Watch until the place to die at."""
    failpoints.arm(watch.crash_at)
    controller = open_controller(watch.settings, fences=[watch.fence])
    try:
        eventually("the end", lambda: False)
    finally:
        controller.close()


@contextlib.contextmanager
def process(watch: Watch) -> Iterator[BaseProcess]:
    """A controller in a process of its own, forked from one that has imported everything."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.iaas.test_failover_crashes"])
    child = context.Process(target=carry_out, args=(watch,))
    child.start()
    try:
        yield child
    finally:
        child.kill()
        child.join()


class Stage:
    """Three nodes with a machine that goes round, each time that its node dies."""

    def __init__(self, cloud: Cloud, hosts: list[FakeHost]) -> None:
        self.cloud = cloud
        self.hosts = {host.name: host for host in hosts}
        self.fence = KillMachines({host.name: host.data_dir for host in hosts}, cloud.controller.cluster_id)
        cloud.settings = replace(cloud.settings, unreachable_after_s=2.0)
        cloud.fences = [self.fence]
        cloud.reopen()

    def die_at(self, place: str) -> None:
        """Let a controller work until it dies there."""
        with process(Watch(self.cloud.settings, self.fence, place)) as child:
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


@pytest.fixture
def stage(cloud: Cloud, fake_nodes: MakeNodes) -> Stage:
    made = Stage(cloud, fake_nodes(3))
    cloud.add(id="m", node="n1")
    return made


@pytest.mark.parametrize("places", [FALLING[:4], FALLING[4:]], ids=["fence", "move"])
def test_a_failover_that_is_cut_short_comes_to_the_same_end(stage: Stage, places: tuple[str, ...]) -> None:
    for place in places:
        old = stage.home()
        stage.cloud.close_controller()
        old.stop()
        stage.die_at(place)
        stage.check_moved_from(old)
        old.start()
        stage.check_back(old)


def test_a_return_that_is_cut_short_comes_to_the_same_end(stage: Stage) -> None:
    for place in RETURNING:
        old = stage.home()
        old.stop()
        stage.check_moved_from(old)
        stage.cloud.close_controller()
        old.start()
        stage.die_at(place)
        stage.check_back(old)


def test_the_places_to_die_at_are_in_the_program() -> None:
    source = Path(open_controller.__code__.co_filename).parent
    text = "".join(path.read_text() for path in source.rglob("*.py"))
    assert [place for place in (*FALLING, *RETURNING) if f'reach("{place}")' not in text] == []
