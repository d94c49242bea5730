"""A node that does not answer as it should says why in the words of now, until its own agent answers: nobody lends a hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from tests.free_ports import free_port
from tests.iaas.clouds import Cloud, FakeHost, eventually, machine_is, node_is

from garbi.base.errors import InvalidField, NotFound
from garbi.base.token import new_secret
from garbi.hyper_api.vocabulary import State
from garbi.iaas.model.node import NodeChange, NodeSpec, NodeState, Ssh
from garbi.iaas.model.operation import OperationState

MakeNodes = Callable[..., list[FakeHost]]


def reason_is(cloud: Cloud, *words: str) -> None:
    """Wait until the reason of n1 has these words."""

    def holds() -> bool:
        return all(each in cloud.controller.nodes.get("n1").reason for each in words)

    eventually(f"the reason says {words}", holds, words=lambda: cloud.controller.nodes.get("n1"))


def test_a_node_at_whose_address_a_stranger_answered_is_back_when_its_own_agent_is(
    cloud: Cloud, fake_nodes: MakeNodes
) -> None:
    (host,) = fake_nodes(1)
    cloud.add(id="web")
    own = host.settings
    host.replace_agent(cloud.root)
    node_is(cloud, "n1", NodeState.FAILED)
    reason_is(cloud, "another agent answers")
    theirs = host.client.machines.add({"image": "any", "type": "fake", "id": "web", "mem": 16})
    host.hide()
    node_is(cloud, "n1", NodeState.UNREACHABLE)
    reason_is(cloud, "no answer since")
    host.open()
    node_is(cloud, "n1", NodeState.FAILED)
    cloud.reopen()  # who leads next looks on
    assert host.client.machines.get("web") == theirs
    host.stop()
    host._settings = own
    host.start()
    node_is(cloud, "n1", NodeState.READY)
    assert machine_is(cloud, "web", State.RUNNING).node == "n1"
    assert cloud.controller.nodes.get("n1").reason == ""
    assert cloud.add(id="more").state is State.RUNNING
    cloud.sound()


def test_a_host_that_was_slow_when_it_was_added_becomes_ready_by_itself(cloud: Cloud) -> None:
    host = cloud.host()
    host.hide()
    operation = cloud.finished(cloud.controller.nodes.add(host.spec(), host.token))
    assert operation.state is OperationState.FAILED
    node_is(cloud, "n1", NodeState.FAILED)
    reason_is(cloud, "no answer yet")
    host.open()
    node_is(cloud, "n1", NodeState.READY)
    assert cloud.add(id="web").state is State.RUNNING
    cloud.sound()


def test_a_token_that_was_made_anew_is_said_to_be_and_is_mended_without_a_removal(
    cloud: Cloud, fake_nodes: MakeNodes
) -> None:
    (host,) = fake_nodes(1)
    cloud.add(id="web")
    host.stop()
    node_is(cloud, "n1", NodeState.UNREACHABLE)
    reason_is(cloud, "no answer since")
    token = new_secret()
    (host.data_dir / "token").write_text(f"{token}\n")
    host.start()
    assert host.token == token
    reason_is(cloud, "refuses the token", "iaas node set n1 --token-file")
    with pytest.raises(InvalidField):
        cloud.controller.nodes.change("n1", NodeChange(token="short"))
    cloud.controller.nodes.change("n1", NodeChange(token=token))
    node_is(cloud, "n1", NodeState.READY)
    machine_is(cloud, "web", State.RUNNING)
    assert cloud.controller.machines.console_log("web", 10) is not None
    told = [event.reason for event in cloud.controller.events.since(0, 1000) if event.id == "n1"]
    assert sum("refuses the token" in each for each in told) == 1
    assert not [each for each in told if token in each]
    cloud.sound()


def test_a_wrong_token_at_the_addition_is_mended_the_same_way(cloud: Cloud) -> None:
    host = cloud.host()
    cloud.finished(cloud.controller.nodes.add(host.spec(), "w" * 40))
    node_is(cloud, "n1", NodeState.FAILED)
    cloud.controller.nodes.change("n1", NodeChange(token=host.token))
    node_is(cloud, "n1", NodeState.READY)
    cloud.sound()


def test_a_node_whose_host_was_never_reached_is_removed_without_it(cloud: Cloud) -> None:
    spec = NodeSpec("n2", "127.0.0.1", free_port(), provision=True, ssh=Ssh(port=free_port()))
    failed = cloud.finished(cloud.controller.nodes.add(spec))
    assert failed.state is OperationState.FAILED
    assert node_is(cloud, "n2", NodeState.FAILED).reason == str(failed.error and failed.error["detail"])
    gone = cloud.finished(cloud.controller.nodes.remove("n2"))  # nobody came so far as to change its host
    assert gone.state is OperationState.DONE, gone
    with pytest.raises(NotFound):
        cloud.controller.nodes.get("n2")


def test_an_agent_that_is_a_node_already_becomes_another_only_when_that_is_gone(
    cloud: Cloud, fake_nodes: MakeNodes
) -> None:
    (host,) = fake_nodes(1)
    again = replace(host.spec(), name="other", host="localhost")
    cloud.finished(cloud.controller.nodes.add(again, host.token))
    assert "is that of node n1 already" in node_is(cloud, "other", NodeState.FAILED).reason
    cloud.finished(cloud.controller.nodes.remove("n1"))
    node_is(cloud, "other", NodeState.READY)
