"""What a drain begins is completed, whatever becomes of it: no machine is lost, runs twice, or stays stopped for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.iaas.clouds import Cloud, FakeHost, cloud_at, eventually, machine_is, machine_spec, node_is
from tests.iaas.stages import Stage
from tests.iaas.victim import VICTIM, wait_for_rest

from garbi.base import failpoints
from garbi.base.errors import AlreadyInState, Conflict, NotFound
from garbi.hyper.model.machine import Wish as HostWish
from garbi.hyper_api.vocabulary import NodeFailurePolicy, State, Wish
from garbi.iaas.model.machine import Machine, Moving
from garbi.iaas.model.node import NodeState
from garbi.iaas.model.operation import OperationState

MakeNodes = Callable[..., list[FakeHost]]
STAY = NodeFailurePolicy.STAY
LEAVING = ("machine.leave.begun", "machine.leave.done", "machine.vacated.recorded")
"""Where a controller dies between the intent to move a machine and its new node."""


def hang(host: FakeHost) -> None:
    """Let nothing be removed there from now on."""
    host.world.fail_next("remove", "driver-unavailable", times=None)


def go_on(host: FakeHost) -> None:
    host.world.fail_next("remove", "driver-unavailable", times=0)


def runs_once(cloud: Cloud, machine_id: str, *names: str) -> Machine:
    """The machine, once it runs on one of these nodes, and nowhere else."""

    def places() -> list[str]:
        return [host.name for host in cloud.hosts if machine_id in host.running()]

    def holds() -> bool:
        row = cloud.controller.machines.get(machine_id)
        return row.settled and row.state is State.RUNNING and row.node in names and places() == [row.node]

    eventually(f"{machine_id} runs once", holds, lambda: (cloud.controller.machines.get(machine_id), places()))
    return cloud.controller.machines.get(machine_id)


def leaving(cloud: Cloud, host: FakeHost, machine_id: str = "web") -> None:
    """Drain a node until it is about to remove a machine, which hangs."""
    hang(host)
    cloud.controller.nodes.drain(host.name)
    eventually(f"{machine_id} is told to go", lambda: host.agent.machines.get(machine_id).wish is HostWish.REMOVED)


def test_an_undrain_while_a_machine_is_being_removed_loses_nothing(cloud: Cloud, fake_nodes: MakeNodes) -> None:
    old, _ = fake_nodes(2)
    cloud.add(id="web", node="n1")
    leaving(cloud, old)
    assert cloud.controller.nodes.undrain("n1").state is NodeState.READY
    cloud.controller.machines.wish("web", Wish.RUNNING)
    go_on(old)
    runs_once(cloud, "web", "n2")
    wait_for_rest(cloud.controller)
    cloud.sound()


def test_what_a_drain_has_not_begun_with_stays(cloud: Cloud, fake_nodes: MakeNodes) -> None:
    old, _ = fake_nodes(2)
    for name in ("first", "second"):
        cloud.add(id=name, node="n1")
    leaving(cloud, old, "first")
    assert cloud.finished(cloud.controller.nodes.undrain("n1")).state is OperationState.FAILED
    go_on(old)
    runs_once(cloud, "first", "n2")
    assert runs_once(cloud, "second", "n1").epoch == 1
    cloud.sound()


def test_a_machine_stays_whose_removal_was_not_begun_when_the_undrain_came(tmp_path: Path) -> None:
    with cloud_at(tmp_path) as cloud:
        for host in [cloud.host(), cloud.host()]:
            cloud.join(host)
        stage = Stage(cloud, "drain")
        stage.prepare()
        assert stage.run("drain.leaving.recorded").code == failpoints.EXIT_CODE
        cloud.hosts[1].hide()
        assert cloud.controller.machines.get(VICTIM).moving is Moving.WANTED
        cloud.controller.nodes.undrain("n2")
        cloud.hosts[1].open()
        assert runs_once(cloud, VICTIM, "n2").epoch == 1
        wait_for_rest(cloud.controller)
        cloud.sound()


def test_what_fits_nowhere_else_by_then_is_made_again_where_it_was(cloud: Cloud, fake_nodes: MakeNodes) -> None:
    old, _ = fake_nodes(2)
    cloud.add(id="web", node="n1", mem=64)
    leaving(cloud, old)
    cloud.add(id="large", node="n2", mem=4096)
    cloud.controller.nodes.undrain("n1")
    go_on(old)
    assert runs_once(cloud, "web", "n1").epoch == 2
    cloud.sound()


def test_what_fits_nowhere_says_so_and_is_made_once_there_is_room(cloud: Cloud, fake_nodes: MakeNodes) -> None:
    old, _ = fake_nodes(2)
    cloud.add(id="web", node="n1", mem=64)
    leaving(cloud, old)
    cloud.add(id="large", node="n2", mem=4096)
    go_on(old)
    failed = machine_is(cloud, "web", State.FAILED)
    assert failed.moving is Moving.GONE
    assert "fits nowhere" in failed.reason
    operation = cloud.finished(cloud.controller.nodes.get("n1"))
    assert operation.message == "1 gone from here and without a place elsewhere yet (web)"
    cloud.sound()
    cloud.controller.machines.remove("large")
    runs_once(cloud, "web", "n2")
    cloud.sound()


def test_what_waits_for_a_place_goes_back_when_its_node_is_undrained(cloud: Cloud, fake_nodes: MakeNodes) -> None:
    old, _ = fake_nodes(2)
    cloud.add(id="web", node="n1", mem=64)
    leaving(cloud, old)
    cloud.add(id="large", node="n2", mem=4096)
    go_on(old)
    machine_is(cloud, "web", State.FAILED)
    cloud.controller.nodes.undrain("n1")
    runs_once(cloud, "web", "n1")
    cloud.sound()


def test_what_waits_for_a_place_can_be_removed(cloud: Cloud, fake_nodes: MakeNodes) -> None:
    old, _ = fake_nodes(2)
    cloud.add(id="web", node="n1", mem=64)
    leaving(cloud, old)
    cloud.add(id="large", node="n2", mem=4096)
    go_on(old)
    machine_is(cloud, "web", State.FAILED)
    old.stop()
    cloud.controller.machines.remove("web")
    cloud.gone("web")


def test_a_node_that_dies_while_it_is_drained_loses_nothing(cloud: Cloud, fake_nodes: MakeNodes) -> None:
    old, _ = fake_nodes(2)
    cloud.add(id="web", node="n1")
    leaving(cloud, old)
    old.stop()
    node_is(cloud, "n1", NodeState.UNREACHABLE)
    assert cloud.controller.machines.get("web").node == "n1"
    cloud.controller.nodes.confirm_dead("n1")
    eventually("it was moved", lambda: cloud.settled("web").node == "n2")
    go_on(old)
    old.start()
    node_is(cloud, "n1", NodeState.DRAINING)
    runs_once(cloud, "web", "n2")
    cloud.sound()


def test_published_ports_move_with_their_machine(cloud: Cloud, fake_nodes: MakeNodes) -> None:
    fake_nodes(2)
    cloud.add(id="web", node="n1", ports=[(8080, 80)])
    cloud.add(id="taken", node="n1", ports=[(9090, 80)])
    cloud.add(id="taker", node="n2", ports=[(9090, 80)])
    operation = cloud.finished(cloud.controller.nodes.drain("n1"))
    assert operation.message == "1 moved (web); 1 stopped (taken)"
    assert [port.node_port for port in runs_once(cloud, "web", "n2").ports] == [8080]
    assert cloud.settled("taken").state is State.STOPPED
    cloud.sound()


def test_an_undrain_starts_what_the_drain_has_stopped(cloud: Cloud, fake_nodes: MakeNodes) -> None:
    fake_nodes(1)
    for name in ("disk", "kept", "asked", "late"):
        cloud.add(id=name, on_node_failure=STAY)
    cloud.add(id="off", on_node_failure=STAY, state=Wish.STOPPED)
    controller = cloud.controller
    cloud.finished(controller.nodes.drain("n1"))
    assert controller.nodes.drained_on_each() == {"n1": ["disk", "kept", "asked", "late"]}
    with pytest.raises(AlreadyInState):
        controller.machines.wish("kept", Wish.STOPPED)
    controller.machines.wish("late", Wish.RUNNING)
    cloud.settled("late")
    controller.machines.wish("late", Wish.STOPPED)
    controller.machines.wish("asked", Wish.RUNNING)
    assert cloud.settled("asked").state is State.RUNNING
    assert controller.nodes.drained_on_each() == {"n1": ["disk"]}
    cloud.reopen().nodes.undrain("n1")
    runs_once(cloud, "disk", "n1")
    wait_for_rest(cloud.controller)
    states = {machine.id: machine.state for machine in cloud.controller.machines.list()}
    on, off = State.RUNNING, State.STOPPED
    assert states == {"disk": on, "asked": on, "kept": off, "late": off, "off": off}
    assert cloud.controller.nodes.drained_on_each() == {}
    cloud.sound()


def test_what_a_drain_stopped_moves_when_its_node_dies(cloud: Cloud, fake_nodes: MakeNodes) -> None:
    host, _ = fake_nodes(2)
    cloud.add(id="web", node="n1", mem=64)
    cloud.add(id="large", node="n2", mem=4096)
    assert cloud.finished(cloud.controller.nodes.drain("n1")).message == "1 stopped (web)"
    cloud.controller.machines.remove("large")
    cloud.gone("large")
    host.stop()
    node_is(cloud, "n1", NodeState.UNREACHABLE)
    cloud.controller.nodes.confirm_dead("n1")
    runs_once(cloud, "web", "n2")


def test_drains_and_undrains_one_after_the_other_lose_nothing(cloud: Cloud, fake_nodes: MakeNodes) -> None:
    old, _ = fake_nodes(2)
    cloud.add(id="web", node="n1")
    cloud.add(id="disk", node="n1", on_node_failure=STAY)
    with pytest.raises(NotFound):
        cloud.controller.nodes.drain("nobody")
    with pytest.raises(NotFound):
        cloud.controller.nodes.undrain("nobody")
    leaving(cloud, old)
    first = cloud.controller.nodes.get("n1").operation
    assert cloud.controller.nodes.drain("n1").operation == first
    cloud.controller.nodes.undrain("n1")
    again = cloud.controller.nodes.drain("n1")
    assert again.operation != first
    go_on(old)
    cloud.finished(again)
    runs_once(cloud, "web", "n2")
    assert cloud.settled("disk").state is State.STOPPED
    cloud.controller.nodes.undrain("n1")
    runs_once(cloud, "disk", "n1")
    cloud.sound()


@pytest.mark.parametrize("place", LEAVING)
def test_a_controller_that_dies_between_removal_and_move_loses_nothing_by_the_undrain_after_it(
    place: str, tmp_path: Path
) -> None:
    with cloud_at(tmp_path) as cloud:
        for host in [cloud.host(), cloud.host()]:
            cloud.join(host)
        stage = Stage(cloud, "drain")
        stage.prepare()
        assert stage.run(place).code == failpoints.EXIT_CODE
        cloud.controller.nodes.undrain("n2")
        runs_once(cloud, VICTIM, "n1", "n2")
        wait_for_rest(cloud.controller)
        cloud.sound()


def test_a_machine_of_which_nothing_is_left_is_made_again(cloud: Cloud, fake_nodes: MakeNodes) -> None:
    (host,) = fake_nodes(1)
    cloud.add(id="web")
    cloud.add(id="off", state=Wish.STOPPED)
    for name in ("web", "off"):
        host.client.machines.remove(name)
    assert runs_once(cloud, "web", "n1").epoch == 2
    gone = machine_is(cloud, "off", State.FAILED)
    assert (gone.wish, gone.reason) == (Wish.STOPPED, "it disappeared from node n1")
    cloud.controller.machines.wish("off", Wish.RUNNING)
    runs_once(cloud, "off", "n1")
    cloud.sound()


def test_a_machine_with_a_disk_is_never_made_again_from_its_image(cloud: Cloud, fake_nodes: MakeNodes) -> None:
    (host,) = fake_nodes(1)
    cloud.add(id="disk", on_node_failure=STAY)
    host.client.machines.remove("disk")
    gone = machine_is(cloud, "disk", State.FAILED)
    with pytest.raises(Conflict, match="iaas vm rm disk"):
        cloud.controller.machines.wish("disk", Wish.RUNNING)
    assert [each.subject for each in cloud.controller.audit()] == ["disk"]
    cloud.reopen()
    assert machine_is(cloud, "disk", State.FAILED).epoch == gone.epoch
    assert host.running() == []


def test_a_machine_that_its_engine_still_has_is_not_made_again(cloud: Cloud, fake_nodes: MakeNodes) -> None:
    """The database of an agent may be older than its machines: that it does not list one proves nothing."""
    host, _ = fake_nodes(2)
    cloud.add(id="web", node="n1")
    running = host.world.machine("web")
    cloud.close_controller()
    host.client.machines.remove("web")
    host.world.plant(running)
    unsure = machine_is(cloud, "web", State.FAILED)
    assert "its engine (fake) has it" in unsure.reason
    assert [each.subject for each in cloud.controller.audit()] == ["web"]
    cloud.controller.nodes.drain("n1")
    eventually("it is to go", lambda: cloud.controller.machines.get("web").moving is Moving.WANTED)
    machine_is(cloud, "web", State.FAILED)
    assert cloud.controller.machines.get("web").node == "n1"
    host.world.uproot(running.key)
    cloud.reopen()
    runs_once(cloud, "web", "n2")


def test_a_machine_that_may_be_elsewhere_is_not_made_again(cloud: Cloud, fake_nodes: MakeNodes) -> None:
    """The database of a controller may be older than a move: every node is asked, or proven dead."""
    host, other = fake_nodes(2)
    cloud.add(id="web", node="n1")
    other.hide()
    node_is(cloud, "n2", NodeState.UNREACHABLE)
    host.client.machines.remove("web")
    assert "node n2, which is unreachable, cannot be asked" in machine_is(cloud, "web", State.FAILED).reason
    cloud.controller.nodes.confirm_dead("n2")
    cloud.controller.machines.wish("web", Wish.RUNNING)
    runs_once(cloud, "web", "n1")
    other.open()


def test_nothing_new_is_placed_on_a_node_whose_drain_waits(cloud: Cloud, fake_nodes: MakeNodes) -> None:
    old, _ = fake_nodes(2)
    cloud.add(id="web", node="n1")
    leaving(cloud, old)
    assert cloud.controller.machines.add(machine_spec(id="new")).node == "n2"
    go_on(old)
    runs_once(cloud, "web", "n2")
    runs_once(cloud, "new", "n2")
