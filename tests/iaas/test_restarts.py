"""The controller ends in the middle of everything, and another takes up its work; machines run on all the time."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.iaas.clouds import Cloud, FakeHost, eventually, machine_spec, node_is

from garbi.base.errors import DataDirLocked
from garbi.hyper_api.vocabulary import State, Wish
from garbi.iaas.main import open_controller
from garbi.iaas.model.node import NodeState
from garbi.iaas.model.operation import OperationState

MakeNodes = Callable[..., list[FakeHost]]


def test_machines_run_on_and_what_was_begun_is_taken_up(cloud: Cloud, fake_nodes: MakeNodes) -> None:
    hosts = fake_nodes(2, {"add_delay_s": "0.3", "start_delay_s": "0.3"})
    cloud.add(id="steady")
    started = [machine.power_ons for host in hosts for machine in host.world.machines()]
    for number in range(6):
        cloud.controller.machines.add(machine_spec(id=f"m{number}"))
    cloud.reopen()
    for number in range(6):
        assert cloud.settled(f"m{number}").state is State.RUNNING
    cloud.controller.machines.wish("m0", Wish.STOPPED)
    cloud.controller.machines.remove("m1")
    cloud.reopen()
    assert cloud.settled("m0").state is State.STOPPED
    cloud.gone("m1")
    steady = [machine for host in hosts for machine in host.world.machines() if machine.id == "steady"]
    assert [machine.power_ons for machine in steady] == started
    cloud.sound()
    running = [each for each in cloud.controller.operations.list() if each.state is OperationState.RUNNING]
    assert running == []


def test_a_wish_for_a_silent_node_is_kept_over_a_restart(cloud: Cloud, fake_nodes: MakeNodes) -> None:
    (host,) = fake_nodes(1)
    cloud.add(id="web")
    host.stop()
    node_is(cloud, "n1", NodeState.UNREACHABLE)
    cloud.controller.machines.remove("web")
    cloud.reopen()
    assert cloud.controller.nodes.get("n1").state is NodeState.UNREACHABLE
    host.start()
    cloud.gone("web")
    assert host.world.machines() == []
    cloud.sound()


def test_a_node_that_was_being_added_becomes_ready(cloud: Cloud) -> None:
    host = cloud.host()
    host.hide()
    cloud.controller.nodes.add(host.spec(), host.token)
    cloud.reopen()
    host.open()
    node_is(cloud, "n1", NodeState.READY)
    cloud.sound()


def test_a_drain_goes_on(cloud: Cloud, fake_nodes: MakeNodes) -> None:
    old, new = fake_nodes(2, {"remove_delay_s": "0.2"})
    for number in range(5):
        cloud.add(id=f"m{number}", node="n1")
    node = cloud.controller.nodes.drain("n1")
    eventually("one has gone", lambda: len(old.running()) < 5)
    cloud.reopen()
    assert cloud.finished(node).state is OperationState.DONE
    eventually("all are there", lambda: len(new.running()) == 5)
    assert {cloud.settled(f"m{number}").state for number in range(5)} == {State.RUNNING}
    assert old.world.machines() == []
    cloud.sound()


def test_a_removal_of_a_node_goes_on(cloud: Cloud, fake_nodes: MakeNodes) -> None:
    (host,) = fake_nodes(1, {"remove_delay_s": "0.3"})
    for number in range(4):
        cloud.add(id=f"m{number}")
    cloud.controller.nodes.remove("n1", force=True)
    cloud.reopen()
    eventually("the node has gone", lambda: cloud.controller.nodes.list() == [])
    assert host.world.machines() == []
    cloud.sound()


def test_two_controllers_do_not_share_a_directory(cloud: Cloud) -> None:
    assert cloud.controller.healthy()
    with pytest.raises(DataDirLocked):
        open_controller(cloud.settings)


def test_closing_ends_every_thread_and_can_be_repeated(cloud: Cloud, fake_nodes: MakeNodes) -> None:
    import threading

    fake_nodes(2)
    cloud.add()
    controller = cloud.controller
    ours = ("watch-", "listen-", "converger-n", "converger-operations")
    assert [thread for thread in threading.enumerate() if thread.name.startswith(ours)]
    controller.close()
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith(ours)] == []
    assert not controller.healthy()
    controller.close()
