"""The life of machines on several nodes, through the Python model of the cloud."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest
from tests.free_ports import free_port
from tests.iaas.clouds import Cloud, FakeHost, eventually, machine_is, machine_spec

from garbi.base.errors import (
    AlreadyExists,
    AlreadyInState,
    Conflict,
    NotFound,
    PortTaken,
)
from garbi.hyper_api.vocabulary import NodeFailurePolicy, RestartPolicy, State, Wish
from garbi.iaas.model.marks import marks
from garbi.iaas.model.operation import OperationState

MakeNodes = Callable[..., list[FakeHost]]


def test_a_machine_lives_through_all_its_wishes(cloud: Cloud, fake_nodes: MakeNodes) -> None:
    (host,) = fake_nodes(1)
    machines = cloud.controller.machines
    made = cloud.add(id="web", labels={"team": "blue"})
    assert (made.state, made.node, made.reason) == (State.RUNNING, "n1", "")
    assert cloud.finished(made).state is OperationState.DONE
    assert host.running() == ["web"]
    for wish, state in ((Wish.PAUSED, State.PAUSED), (Wish.RUNNING, State.RUNNING), (Wish.STOPPED, State.STOPPED)):
        machines.wish("web", wish)
        assert cloud.settled("web").state is state
        with pytest.raises(AlreadyInState):
            machines.wish("web", wish)
    with pytest.raises(Conflict):
        machines.wish("web", Wish.PAUSED)
    machines.wish("web", Wish.RUNNING)
    assert cloud.settled("web").state is State.RUNNING
    removal = machines.remove("web")
    cloud.gone("web")
    assert cloud.finished(removal).state is OperationState.DONE
    with pytest.raises(NotFound, match="was removed at"):
        machines.get("web")
    assert host.world.machines() == []
    cloud.sound()


def test_a_create_returns_at_once_and_is_visible(cloud: Cloud, fake_nodes: MakeNodes) -> None:
    fake_nodes(1, {"add_delay_s": "1"})
    machine = cloud.controller.machines.add(machine_spec(id="slow"))
    assert not machine.settled
    assert cloud.controller.machines.get("slow").state in (State.PENDING, State.CREATING)
    assert cloud.settled("slow").state is State.RUNNING
    cloud.sound()


def test_orders_to_a_node_do_not_wait_for_its_slow_machines(cloud: Cloud, fake_nodes: MakeNodes) -> None:
    (host,) = fake_nodes(1, {"start_delay_s": "45"})
    ids = sorted(f"m{number}" for number in range(3 * cloud.settings.workers))
    for each in ids:
        cloud.controller.machines.add(machine_spec(id=each))
    eventually("every machine ordered", lambda: sorted(each.id for each in host.agent.machines.list()) == ids)
    assert host.running() == []


def test_machines_spread_over_the_nodes(cloud: Cloud, fake_nodes: MakeNodes) -> None:
    hosts = fake_nodes(3)
    for _ in range(6):
        cloud.add()
    assert [len(host.running()) for host in hosts] == [2, 2, 2]
    cloud.sound()


def test_fifty_machines_at_once_all_run(cloud: Cloud, fake_nodes: MakeNodes) -> None:
    hosts = fake_nodes(2, {"start_delay_s": "0.05"})
    ids = [f"m{number}" for number in range(50)]
    for each in ids:
        cloud.controller.machines.add(machine_spec(id=each))
    assert {cloud.settled(each).state for each in ids} == {State.RUNNING}
    assert sorted(hosts[0].running() + hosts[1].running()) == sorted(ids)
    cloud.sound()
    for each in ids:
        cloud.controller.machines.remove(each)
    eventually("all gone", lambda: cloud.ids() == [])
    assert [host.world.machines() for host in hosts] == [[], []]
    cloud.sound()


def test_an_id_can_be_used_again(cloud: Cloud, fake_nodes: MakeNodes) -> None:
    fake_nodes(1)
    for _ in range(2):
        assert cloud.add(id="web").state is State.RUNNING
        cloud.controller.machines.remove("web")
        cloud.gone("web")
    cloud.sound()


def test_the_same_key_makes_one_machine(cloud: Cloud, fake_nodes: MakeNodes) -> None:
    fake_nodes(2)
    first = cloud.controller.machines.add(machine_spec(), "key")
    assert cloud.controller.machines.add(machine_spec(), "key").id == first.id
    cloud.settled(first.id)
    cloud.sound()


def test_a_port_that_a_machine_has_is_refused_by_the_database(cloud: Cloud, fake_nodes: MakeNodes) -> None:
    fake_nodes(1)
    port = free_port()
    cloud.add(id="web", node="n1", ports=[(port, 80)])
    with pytest.raises(PortTaken, match="web"):
        cloud.controller.machines.add(machine_spec(node="n1", ports=[(port, 80)]))
    cloud.sound()


def test_a_port_that_a_process_of_the_node_has_is_refused_and_the_process_named(
    cloud: Cloud, fake_nodes: MakeNodes
) -> None:
    (host,) = fake_nodes(1, simulated=False)
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        machine = cloud.add(id="web", node="n1", ports=[(port, 80)])
        assert (machine.state, machine.refused) == (State.FAILED, True)
        assert "node n1" in machine.reason
        refusal = cloud.controller.machines.withdraw(machine)
    assert isinstance(refusal, PortTaken)
    assert refusal.extra["node"] == "n1"
    assert "pid" in str(refusal.extra["holder"])
    assert cloud.ids() == []
    assert cloud.controller.nodes.get("n1").reserved.mem == 0
    assert host.world.machines() == []
    assert cloud.add(id="web", node="n1", ports=[(port, 80)]).state is State.RUNNING
    cloud.sound()


def test_a_refused_request_may_be_sent_again_with_the_same_key(cloud: Cloud, fake_nodes: MakeNodes) -> None:
    fake_nodes(1, simulated=False)
    port = free_port()
    spec = machine_spec(node="n1", ports=[(port, 80)])
    with socket.create_server(("127.0.0.1", port)):
        first = cloud.controller.machines.add(spec, "key")
        assert cloud.settled(first.id).refused
        assert isinstance(cloud.controller.machines.withdraw(first), PortTaken)
    second = cloud.controller.machines.add(spec, "key")
    assert cloud.settled(second.id).state is State.RUNNING
    cloud.sound()


def test_what_bears_our_mark_on_a_node_without_a_record_here_is_a_finding(cloud: Cloud, fake_nodes: MakeNodes) -> None:
    (host,) = fake_nodes(1)
    order = {"image": "any", "type": "fake", "id": "lost", "mem": 16}
    host.client.machines.add({**order, "labels": marks(cloud.controller.cluster_id, 1)})
    host.client.machines.add({**order, "id": "theirs", "labels": marks("another", 1)})
    assert [(each.invariant, each.subject) for each in cloud.controller.audit()] == [("I5", "lost")]


def test_a_refusal_for_which_nobody_waits_stays_visible_until_the_machine_is_removed(
    cloud: Cloud, fake_nodes: MakeNodes
) -> None:
    (host,) = fake_nodes(1, simulated=False)
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        failed = cloud.add(id="web", node="n1", ports=[(port, 80)])
    operation = cloud.finished(failed)
    assert operation.state is OperationState.FAILED
    assert operation.error is not None
    assert operation.error["code"] == "port-taken"
    assert failed.state is State.FAILED
    cloud.controller.machines.wish("web", Wish.RUNNING)  # the port is free now: a new wish is a new try
    assert cloud.settled("web").state is State.RUNNING
    cloud.controller.machines.remove("web")
    cloud.gone("web")
    assert host.world.machines() == []
    cloud.sound()


def test_a_machine_that_fails_at_its_node_is_failed_here_with_the_reason(cloud: Cloud, fake_nodes: MakeNodes) -> None:
    (host,) = fake_nodes(1)
    host.world.fail_next("start", "driver-failed", times=None)
    machine = cloud.add(id="web")
    assert (machine.state, machine.refused) == (State.FAILED, False)
    assert "start fails as ordered" in machine.reason
    assert cloud.finished(machine).state is OperationState.FAILED
    host.world.fail_next("start", "driver-failed", times=0)
    cloud.controller.machines.wish("web", Wish.RUNNING)
    assert cloud.settled("web").state is State.RUNNING
    cloud.sound()


def test_a_name_that_somebody_else_has_on_the_node_is_refused_and_theirs_is_left_alone(
    cloud: Cloud, fake_nodes: MakeNodes
) -> None:
    (host,) = fake_nodes(1)
    host.client.machines.add({"image": "any", "type": "fake", "id": "web", "mem": 16})
    machine = cloud.add(id="web")
    assert (machine.state, machine.refused) == (State.FAILED, True)
    assert isinstance(cloud.controller.machines.withdraw(machine), AlreadyExists)
    assert host.running() == ["web"]
    cloud.sound()


def test_what_happens_at_the_node_is_seen_here(cloud: Cloud, fake_nodes: MakeNodes) -> None:
    (host,) = fake_nodes(1)
    cloud.add(id="killed", restart=RestartPolicy.NO)
    cloud.add(id="deleted", on_node_failure=NodeFailurePolicy.STAY)
    host.world.kill("killed", "out of memory")
    assert "out of memory" in machine_is(cloud, "killed", State.FAILED).reason
    host.client.machines.remove("deleted")
    assert machine_is(cloud, "deleted", State.FAILED).reason.startswith(
        "it disappeared from node n1; its disk went with it"
    )
    assert host.running() == []
    cloud.controller.machines.remove("deleted")
    cloud.gone("deleted")
    cloud.sound()


def test_every_failure_is_told_although_the_host_starts_the_machine_again_at_once(
    cloud: Cloud, fake_nodes: MakeNodes
) -> None:
    (host,) = fake_nodes(1)
    ids = {cloud.add(id=f"m{number}").id for number in range(12)}
    before = cloud.controller.events.last_seq()
    for each in ids:
        host.world.kill(each, "out of memory")

    def told() -> set[str]:
        return {
            event.id
            for event in cloud.controller.events.since(before, 1000)
            if (event.state, event.actor) == (State.FAILED, "node:n1") and "out of memory; restart 1" in event.reason
        }

    eventually("every failure is told", lambda: told() == ids, words=told)
    for each in ids:
        machine_is(cloud, each, State.RUNNING)
    cloud.sound()


def test_a_failure_of_somebody_elses_machine_is_not_ours(cloud: Cloud, fake_nodes: MakeNodes) -> None:
    (host,) = fake_nodes(1)
    host.client.machines.add({"image": "any", "type": "fake", "id": "web", "mem": 16})
    refused = cloud.add(id="web")
    cloud.add(id="later")
    host.world.kill("web", "out of memory")
    host.world.kill("later", "no more disk")
    eventually("the later one is told", lambda: _failures(cloud, "later"))
    assert cloud.controller.machines.get("web").reason == refused.reason


def _failures(cloud: Cloud, machine_id: str) -> list[str]:
    return [
        event.reason
        for event in cloud.controller.events.since(0, 10_000)
        if (event.id, event.state) == (machine_id, State.FAILED)
    ]


def test_a_machine_can_be_removed_while_it_is_made(cloud: Cloud, fake_nodes: MakeNodes) -> None:
    (host,) = fake_nodes(1, {"add_delay_s": "0.3", "start_delay_s": "0.3"})
    for number in range(4):
        cloud.controller.machines.add(machine_spec(id=f"m{number}"))
    for number in range(4):
        cloud.controller.machines.remove(f"m{number}")
    eventually("all gone", lambda: cloud.ids() == [])
    eventually("nothing left", lambda: host.world.machines() == [])
    cloud.sound()


def test_an_older_wish_gives_way_to_a_newer_one(cloud: Cloud, fake_nodes: MakeNodes) -> None:
    fake_nodes(1, {"start_delay_s": "0.3"})
    first = cloud.controller.machines.add(machine_spec(id="web"))
    second = cloud.controller.machines.wish("web", Wish.STOPPED)
    assert cloud.settled("web").state is State.STOPPED
    assert cloud.finished(first).state is OperationState.DONE
    assert cloud.finished(second).state is OperationState.DONE
    cloud.sound()


def test_the_log_and_the_figures_come_from_the_node(cloud: Cloud, fake_nodes: MakeNodes) -> None:
    fake_nodes(1)
    cloud.add(id="web")
    assert isinstance(cloud.controller.machines.console_log("web", 100), bytes)
    assert cloud.controller.machines.figures("web")["id"] == "web"


def test_a_node_that_hangs_does_not_hold_up_the_others(cloud: Cloud, fake_nodes: MakeNodes) -> None:
    hanging, _ = fake_nodes(2)
    hanging.stop()
    with socket.create_server(("127.0.0.1", hanging.port)):  # it takes connections, and never answers
        waiting = [cloud.controller.machines.add(machine_spec(node="n1")) for _ in range(12)]
        assert cloud.add(node="n2").state is State.RUNNING
        assert not any(cloud.controller.machines.get(machine.id).settled for machine in waiting)
    hanging.start()
    assert {cloud.settled(machine.id).state for machine in waiting} == {State.RUNNING}
    assert len(hanging.running()) == 12
    cloud.sound()
