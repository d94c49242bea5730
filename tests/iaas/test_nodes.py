"""How nodes join a cloud, fall silent, come back, are emptied, and leave."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from tests.free_ports import free_port
from tests.iaas.clouds import Cloud, FakeHost, eventually, machine_is, machine_spec, node_is

from garbi.base.errors import AlreadyExists, AlreadyInState, Conflict, InvalidField, NotFound, NothingFits
from garbi.hyper.host.capacity import memory_total_mib
from garbi.hyper_api.vocabulary import NodeFailurePolicy, RestartPolicy, State, Wish
from garbi.iaas.model.node import NodeSpec, NodeState
from garbi.iaas.model.operation import OperationState
from garbi.iaas.workflows import remove_node

MakeNodes = Callable[..., list[FakeHost]]


def test_a_node_says_what_it_has(cloud: Cloud, fake_nodes: MakeNodes) -> None:
    fake_nodes(1, mem=1024)
    node = cloud.controller.nodes.get("n1")
    assert (node.state, node.has.mem, node.limit.mem) == (NodeState.READY, 1024, 1024)
    assert node.limit.cpus == node.has.cpus * 16
    assert [driver.name for driver in node.drivers if driver.available] == ["fake"]
    assert node.seen_at is not None
    cloud.sound()


def test_memory_that_others_use_on_a_node_is_not_given_away(cloud: Cloud) -> None:
    host = cloud.host(mem=1024)
    host.client.machines.add({"image": "any", "type": "fake", "id": "theirs", "mem": 600})
    cloud.join(host)
    eventually("the node has less", lambda: cloud.controller.nodes.get("n1").limit.mem == 424)
    with pytest.raises(NothingFits):
        cloud.controller.machines.add(machine_spec(mem=425))
    assert cloud.add(mem=424).state is State.RUNNING
    cloud.sound()


def test_a_host_where_nothing_answers_leaves_a_failed_node_that_can_be_tried_again(cloud: Cloud) -> None:
    host = cloud.host()
    host.hide()
    node = cloud.controller.nodes.add(host.spec(), host.token)
    operation = cloud.finished(node)
    assert operation.state is OperationState.FAILED
    assert operation.error is not None
    assert operation.error["code"] == "node-unreachable"
    failed = node_is(cloud, "n1", NodeState.FAILED)
    assert "no answer from" in failed.reason
    cloud.controller.nodes.add(host.spec(), host.token)
    host.open()
    node_is(cloud, "n1", NodeState.READY)
    cloud.sound()


def test_a_wrong_token_is_said_to_be_wrong(cloud: Cloud) -> None:
    host = cloud.host()
    node = cloud.controller.nodes.add(host.spec(), "w" * 40)
    operation = cloud.finished(node)
    assert operation.error is not None
    assert operation.error["code"] == "unauthenticated"
    assert cloud.join(host).state is NodeState.READY


def test_a_node_that_failed_can_be_removed(cloud: Cloud) -> None:
    spec = NodeSpec("gone", "127.0.0.1", free_port(), provision=False)
    cloud.finished(cloud.controller.nodes.add(spec, "w" * 40))
    cloud.finished(cloud.controller.nodes.remove("gone"))
    with pytest.raises(NotFound):
        cloud.controller.nodes.get("gone")


def test_an_agent_is_a_node_once(cloud: Cloud, fake_nodes: MakeNodes) -> None:
    (host,) = fake_nodes(1)
    with pytest.raises(AlreadyExists):
        cloud.controller.nodes.add(host.spec(), host.token)
    with pytest.raises(AlreadyExists):
        cloud.controller.nodes.add(replace(host.spec(), name="other"), host.token)
    again = cloud.controller.nodes.add(replace(host.spec(), name="other", host="localhost"), host.token)
    operation = cloud.finished(again)
    assert operation.error is not None
    assert "is that of node n1 already" in operation.error["detail"]


@pytest.mark.parametrize(
    ("field", "spec"),
    [
        ("name", NodeSpec("No", "127.0.0.1", 1, provision=False)),
        ("address", NodeSpec("n", "a b", 1, provision=False)),
        ("address", NodeSpec("n", "127.0.0.1", 0, provision=False)),
        ("token", NodeSpec("n", "192.0.2.1", 1, provision=False)),
    ],
)
def test_what_no_node_can_be_is_refused(cloud: Cloud, field: str, spec: NodeSpec) -> None:
    with pytest.raises(InvalidField) as refusal:
        cloud.controller.nodes.add(spec)
    assert refusal.value.extra["field"] == field
    assert cloud.controller.nodes.list() == []


def test_a_silent_node_is_unreachable_and_its_machines_are_unknown_until_it_is_back(
    cloud: Cloud, fake_nodes: MakeNodes
) -> None:
    host, _ = fake_nodes(2)
    cloud.add(id="web", node="n1")
    host.stop()
    node = node_is(cloud, "n1", NodeState.UNREACHABLE)
    assert "no answer since" in node.reason
    assert "n1 is unreachable" in machine_is(cloud, "web", State.UNKNOWN).reason
    assert host.running() == ["web"]
    assert cloud.add(id="elsewhere").node == "n2"
    with pytest.raises(NothingFits):
        cloud.controller.machines.add(machine_spec(node="n1"))
    cloud.controller.machines.wish("web", Wish.STOPPED)
    host.start()
    node_is(cloud, "n1", NodeState.READY)
    assert cloud.settled("web").state is State.STOPPED
    cloud.sound()


def test_a_short_silence_changes_nothing_but_the_time(cloud: Cloud, fake_nodes: MakeNodes) -> None:
    (host,) = fake_nodes(1)
    cloud.add(id="web")
    last = cloud.controller.events.last_seq()
    host.hide()
    host.open()
    before = cloud.controller.nodes.get("n1").seen_at
    eventually("seen again", lambda: cloud.controller.nodes.get("n1").seen_at != before)
    assert cloud.controller.events.since(last, 100) == []
    cloud.sound()


def test_events_are_heard_again_after_the_agent_was_started_anew(cloud: Cloud, fake_nodes: MakeNodes) -> None:
    (host,) = fake_nodes(1)
    cloud.add(id="web", restart=RestartPolicy.NO)
    host.stop()
    host.world.kill("web", "it fell while nobody looked")
    host.start()
    assert "it fell" in machine_is(cloud, "web", State.FAILED).reason
    cloud.controller.machines.wish("web", Wish.RUNNING)
    assert cloud.settled("web").state is State.RUNNING
    cloud.sound()


def test_another_agent_at_the_address_is_given_no_orders(cloud: Cloud, fake_nodes: MakeNodes) -> None:
    (host,) = fake_nodes(1)
    cloud.add(id="web")
    host.replace_agent(cloud.root)
    host.client.machines.add({"image": "any", "type": "fake", "id": "web", "mem": 16})
    assert "another agent answers" in node_is(cloud, "n1", NodeState.FAILED).reason
    assert machine_is(cloud, "web", State.UNKNOWN).reason.startswith("node n1: another agent")
    cloud.controller.machines.remove("web")
    cloud.reopen()
    cloud.finished(cloud.controller.nodes.remove("n1", force=True))
    assert cloud.ids() == []
    assert host.running() == ["web"]


def test_a_node_with_machines_is_removed_with_them_only_by_force(cloud: Cloud, fake_nodes: MakeNodes) -> None:
    host, other = fake_nodes(2)
    for number in range(6):
        cloud.add(id=f"m{number}", node="n1")
    cloud.add(id="other", node="n2")
    with pytest.raises(Conflict, match="m0, m1, m2, m3, m4, …"):
        cloud.controller.nodes.remove("n1")
    node = cloud.controller.nodes.remove("n1", force=True)
    assert node.state is NodeState.REMOVING
    operation = cloud.finished(node)
    assert operation.state is OperationState.DONE, operation
    assert [each.name for each in cloud.controller.nodes.list()] == ["n2"]
    assert cloud.ids() == ["other"]
    assert host.world.machines() == []
    assert host.client.health()["status"] == "ok"  # the host was not provisioned by us, and is left alone
    cloud.sound()
    assert cloud.join(host).state is NodeState.READY
    assert other.running() == ["other"]


def test_a_removal_that_failed_is_tried_again_and_leaves_no_machine_behind(
    cloud: Cloud, fake_nodes: MakeNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    (host,) = fake_nodes(1)
    cloud.add(id="web")
    host.world.fail_next("remove", "driver-failed", times=None)
    monkeypatch.setattr(remove_node, "PATIENCE_S", 1.0)
    operation = cloud.finished(cloud.controller.nodes.remove("n1", force=True))
    assert operation.state is OperationState.FAILED
    assert "machine web is still there" in node_is(cloud, "n1", NodeState.FAILED).reason
    monkeypatch.undo()
    host.world.fail_next("remove", "driver-failed", times=0)
    cloud.finished(cloud.controller.nodes.remove("n1", force=True))
    assert (cloud.ids(), cloud.controller.nodes.list(), host.world.machines()) == ([], [], [])
    cloud.sound()


def test_a_dead_node_is_said_to_be_dead_and_forgotten(cloud: Cloud, fake_nodes: MakeNodes) -> None:
    host, _ = fake_nodes(2)
    cloud.add(id="web", node="n1")
    with pytest.raises(Conflict):
        cloud.controller.nodes.confirm_dead("n1")
    host.stop()
    node_is(cloud, "n1", NodeState.UNREACHABLE)
    with pytest.raises(Conflict, match="web"):
        cloud.controller.nodes.remove("n1")
    assert cloud.controller.nodes.confirm_dead("n1").state is NodeState.UNAVAILABLE
    assert cloud.controller.machines.get("web").state is State.FAILED
    with pytest.raises(Conflict, match="web"):
        cloud.controller.nodes.remove("n1")
    cloud.finished(cloud.controller.nodes.remove("n1", force=True))
    assert (cloud.ids(), [node.name for node in cloud.controller.nodes.list()]) == ([], ["n2"])
    cloud.sound()


def test_a_node_that_was_said_to_be_dead_may_come_back(cloud: Cloud, fake_nodes: MakeNodes) -> None:
    (host,) = fake_nodes(1)
    cloud.add(id="web")
    host.stop()
    node_is(cloud, "n1", NodeState.UNREACHABLE)
    cloud.controller.nodes.confirm_dead("n1")
    host.start()
    node_is(cloud, "n1", NodeState.READY)
    machine_is(cloud, "web", State.RUNNING)
    cloud.sound()


def test_a_node_that_was_dead_once_can_be_removed_and_added_again(cloud: Cloud, fake_nodes: MakeNodes) -> None:
    host, _ = fake_nodes(2)
    host.stop()
    node_is(cloud, "n1", NodeState.UNREACHABLE)
    cloud.controller.nodes.confirm_dead("n1")
    host.start()
    node_is(cloud, "n1", NodeState.READY)
    assert cloud.controller.nodes.get("n1").lease > 1
    cloud.finished(cloud.controller.nodes.remove("n1"))
    cloud.join(host)
    cloud.add(id="web", node="n1")
    machine_is(cloud, "web", State.RUNNING)
    cloud.sound()


def test_drain_moves_what_it_can_and_stops_the_rest(cloud: Cloud, fake_nodes: MakeNodes) -> None:
    old, new = fake_nodes(2)
    for number in range(3):
        cloud.add(id=f"free{number}", node="n1")
    cloud.add(id="bound", node="n1", on_node_failure=NodeFailurePolicy.STAY)
    cloud.add(id="stopped", node="n1", state=Wish.STOPPED)
    operation = cloud.finished(cloud.controller.nodes.drain("n1"))
    assert operation.state is OperationState.DONE, operation
    assert operation.message == "4 moved (free0, free1, free2, stopped); 1 stopped (bound)"
    for machine_id in ("free0", "free1", "free2"):
        assert cloud.settled(machine_id).state is State.RUNNING
    assert cloud.settled("stopped").state is State.STOPPED
    assert (cloud.settled("bound").state, cloud.settled("bound").node) == (State.STOPPED, "n1")
    assert old.running() == []
    assert new.running() == ["free0", "free1", "free2"]
    assert cloud.add().node == "n2"
    with pytest.raises(NothingFits):
        cloud.controller.machines.add(machine_spec(node="n1"))
    assert cloud.controller.nodes.undrain("n1").state is NodeState.READY
    with pytest.raises(AlreadyInState):
        cloud.controller.nodes.undrain("n1")
    assert cloud.add(node="n1").state is State.RUNNING
    cloud.sound()


def test_drain_stops_what_fits_nowhere_else(cloud: Cloud, fake_nodes: MakeNodes) -> None:
    (host,) = fake_nodes(1)
    cloud.add(id="web")
    operation = cloud.finished(cloud.controller.nodes.drain("n1"))
    assert operation.message == "1 stopped (web)"
    assert cloud.settled("web").state is State.STOPPED
    assert [machine.id for machine in host.world.machines()] == ["web"]
    cloud.sound()


def test_a_drained_node_that_falls_silent_is_drained_when_it_is_back(cloud: Cloud, fake_nodes: MakeNodes) -> None:
    (host,) = fake_nodes(1)
    cloud.finished(cloud.controller.nodes.drain("n1"))
    host.stop()
    node_is(cloud, "n1", NodeState.UNREACHABLE)
    host.start()
    node_is(cloud, "n1", NodeState.DRAINING)
    cloud.sound()


def test_two_agents_of_one_host_do_not_promise_its_memory_twice(cloud: Cloud, fake_nodes: MakeNodes) -> None:
    most = memory_total_mib() * 4 // 5
    fake_nodes(2, mem=most, simulated=False)
    cloud.add(id="web", node="n1", mem=most // 2)
    with pytest.raises(NothingFits, match="memory"):
        cloud.controller.machines.add(machine_spec(node="n2", mem=most // 2 + 2))
    assert cloud.add(id="db", node="n2", mem=most // 2).node == "n2"
    cloud.sound()


def test_several_nodes_join_at_the_same_time(cloud: Cloud) -> None:
    hosts = [cloud.host() for _ in range(4)]
    nodes = [cloud.controller.nodes.add(host.spec(), host.token) for host in hosts]
    assert {cloud.finished(node).state for node in nodes} == {OperationState.DONE}
    assert {node.state for node in cloud.controller.nodes.list()} == {NodeState.READY}
    cloud.sound()
