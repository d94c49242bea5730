"""A host that is shut down on purpose says so, and is not taken for dead while it may be on its way back."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from tests.iaas.clouds import Cloud, FakeHost, eventually, machine_is, node_is

from garbi.hyper_api.vocabulary import NodeFailurePolicy, State
from garbi.iaas.fences.protocol import Outlook, Proof, Scope
from garbi.iaas.loops import failover
from garbi.iaas.model.node import Node, NodeState


class Prover:
    """A fence that proves whatever it is asked."""

    name = "prover"

    def __init__(self) -> None:
        self.asked = threading.Event()

    def applies_to(self, node: Node) -> str | None:
        return None

    def outlook(self, node: Node) -> Outlook:
        return Outlook(Scope.ALL, 1.0)

    def prove(self, node: Node, cancelled: threading.Event) -> Proof:
        self.asked.set()
        return Proof(self.name, Scope.ALL, "it is off")


@contextmanager
def taking_leave(host: FakeHost) -> Iterator[None]:
    """Within, the host has said that it goes down."""
    leave = threading.Thread(target=host.agent.departure.take)
    leave.start()
    leave.join(60)
    assert not leave.is_alive()
    yield


@pytest.fixture
def prover(cloud: Cloud) -> Prover:
    made = Prover()
    cloud.fences = [made]
    return made


def test_a_node_that_goes_down_is_not_fenced_and_is_just_back(
    cloud: Cloud, prover: Prover, fake_nodes: Callable[..., list[FakeHost]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failover, "PERIOD_S", 0.1)
    host, *_ = fake_nodes(3)
    cloud.add(id="m", node="n1")
    with taking_leave(host):
        eventually("the controller knows", lambda: cloud.controller.nodes.get("n1").leaving_at is not None)
        foretold = cloud.controller.what_if("n1")
        assert foretold.tried_after_s == cloud.settings.unreachable_after_s + failover.LEAVING_S
        assert foretold.fences[0].within_s == foretold.tried_after_s + 1.0
        host.stop()
    assert "going down since" in node_is(cloud, "n1", NodeState.UNREACHABLE).words
    assert not prover.asked.wait(3), "it was fenced"
    host.start()
    node_is(cloud, "n1", NodeState.READY)
    eventually("it stays", lambda: cloud.controller.nodes.get("n1").leaving_at is None)
    assert machine_is(cloud, "m", State.RUNNING).node == "n1"


def test_one_that_does_not_come_back_is_fenced_after_a_while(
    cloud: Cloud, prover: Prover, fake_nodes: Callable[..., list[FakeHost]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failover, "PERIOD_S", 0.1)
    monkeypatch.setattr(failover, "LEAVING_S", 2.0)
    host, *_ = fake_nodes(3)
    with taking_leave(host):
        host.stop()
    node_is(cloud, "n1", NodeState.UNAVAILABLE)
    assert prover.asked.is_set()


def test_a_host_that_goes_down_and_is_known_to_be_off_is_confirmed_dead_at_once(
    cloud: Cloud, prover: Prover, fake_nodes: Callable[..., list[FakeHost]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failover, "PERIOD_S", 0.1)
    host, *_ = fake_nodes(3)
    cloud.add(id="m", node="n1", on_node_failure=NodeFailurePolicy.RECREATE)
    with taking_leave(host):
        eventually("the controller knows", lambda: cloud.controller.nodes.get("n1").leaving_at is not None)
        host.stop()
    node_is(cloud, "n1", NodeState.UNREACHABLE)
    cloud.controller.nodes.confirm_dead("n1")
    node_is(cloud, "n1", NodeState.UNAVAILABLE)
    eventually("it runs elsewhere", lambda: machine_is(cloud, "m", State.RUNNING).node != "n1")
    assert not prover.asked.is_set()
