"""A database that has lost its last commits: what waits for a node there may run on one already, and is made on no other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from tests.iaas.clouds import Cloud, FakeHost, eventually, machine_is, node_is
from tests.iaas.test_disappeared import lose_record
from tests.iaas.test_drains import go_on, leaving
from tests.iaas.test_restore import back_up, put_back

from garbi.hyper_api.vocabulary import State, Wish
from garbi.iaas.main import open_controller
from garbi.iaas.model.machine import Moving
from garbi.iaas.model.node import NodeState

MakeNodes = Callable[..., list[FakeHost]]


@dataclass
class Behind:
    """A cloud whose database says that `web` has left n1 and waits for a node; it runs on n2."""

    cloud: Cloud
    hosts: list[FakeHost]

    def places(self) -> list[str]:
        return [host.name for host in self.hosts if "web" in host.running()]

    def take_over(self) -> None:
        """Two terms, since the first is that of the controller whose commits are lost."""
        self.cloud.reopen()
        self.cloud.reopen()

    def restore(self) -> None:
        """What the operator of a restored database does."""
        self.cloud.close_controller()
        self.cloud._controller = open_controller(self.cloud.settings, after_restore=True)


@pytest.fixture
def behind(cloud: Cloud, fake_nodes: MakeNodes) -> Behind:
    hosts = fake_nodes(3)
    cloud.add(id="web", node="n1")
    leaving(cloud, hosts[0])
    for name in ("n3", "n2"):
        cloud.finished(cloud.controller.nodes.drain(name))
    go_on(hosts[0])
    assert machine_is(cloud, "web", State.FAILED).moving is Moving.GONE
    cloud.close_controller()
    back_up(cloud, cloud.root / "backup")
    cloud.controller.nodes.undrain("n2")
    assert machine_is(cloud, "web", State.RUNNING).node == "n2"
    cloud.close_controller()
    put_back(cloud, cloud.root / "backup")
    made = Behind(cloud, hosts)
    assert made.places() == ["n2"]
    return made


def test_what_waits_for_a_node_is_made_on_none_before_every_node_was_asked(behind: Behind) -> None:
    cloud, controller = behind.cloud, behind.cloud.controller
    behind.hosts[1].hide()
    behind.take_over()
    controller = cloud.controller
    node_is(cloud, "n2", NodeState.UNREACHABLE)
    controller.nodes.undrain("n3")
    asked = "node n2, which is unreachable, cannot be asked whether it is there already"
    eventually("it says so", lambda: asked in controller.machines.get("web").reason, behind.places)
    assert behind.places() == ["n2"]
    behind.hosts[1].open()
    controller.nodes.undrain("n2")
    eventually("it is found", lambda: machine_is(cloud, "web", State.RUNNING).node == "n2")
    assert (behind.places(), controller.machines.get("web").epoch) == (["n2"], 2)
    cloud.sound()


def test_it_is_made_elsewhere_once_the_node_that_might_have_it_is_proven_dead(behind: Behind) -> None:
    cloud = behind.cloud
    behind.hosts[1].stop()
    behind.hosts[1].world.kill("web")
    behind.take_over()
    node_is(cloud, "n2", NodeState.UNREACHABLE)
    cloud.controller.nodes.undrain("n3")
    eventually("it waits", lambda: "cannot be asked" in cloud.controller.machines.get("web").reason)
    cloud.controller.nodes.confirm_dead("n2")
    eventually("it moves", lambda: cloud.controller.machines.get("web").node == "n3")
    machine_is(cloud, "web", State.RUNNING)
    assert behind.places() == ["n3"]


def test_an_engine_that_has_it_without_its_agent_holds_it_up(behind: Behind) -> None:
    cloud, host = behind.cloud, behind.hosts[1]
    lose_record(host, "web")
    behind.take_over()
    cloud.controller.nodes.undrain("n3")
    found = "the agent of node n2 has no record of it, but its engine (fake) has it"
    eventually("it says so", lambda: found in cloud.controller.machines.get("web").reason, behind.places)
    assert behind.places() == ["n2"]


def test_after_a_restore_it_stays_stopped_unless_every_node_has_answered(behind: Behind) -> None:
    cloud, host = behind.cloud, behind.hosts[1]
    host.hide()
    behind.restore()
    assert cloud.controller.machines.get("web").wish is Wish.STOPPED
    cloud.controller.nodes.undrain("n3")
    eventually("it waits", lambda: "cannot be asked" in cloud.controller.machines.get("web").reason)
    assert behind.places() == ["n2"]


def test_after_a_restore_it_is_where_it_was_found(behind: Behind) -> None:
    cloud = behind.cloud
    cloud.reopen()
    cloud.controller.nodes.undrain("n2")
    behind.restore()
    assert machine_is(cloud, "web", State.RUNNING).node == "n2"
    assert behind.places() == ["n2"]
    assert cloud.controller.machines.get("web").wish is Wish.RUNNING
