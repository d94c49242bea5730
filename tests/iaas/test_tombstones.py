"""A node that is removed by force while its host is silent: nothing of it runs on once that is back; what is of others stays."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from tests.iaas.clouds import LIMIT_S, Cloud, FakeHost, eventually, machine_is, node_is
from tests.iaas.watches import Watch, process

from garbi.base.errors import Conflict
from garbi.base.failpoints import EXIT_CODE
from garbi.hyper.model.machine import Wish as HostWish
from garbi.hyper_api.vocabulary import NodeFailurePolicy, RestartPolicy, State
from garbi.iaas.loops import tombstones
from garbi.iaas.model.node import NodeState
from garbi.iaas.model.operation import OperationState
from garbi.iaas.workflows import remove_node

MakeNodes = Callable[..., list[FakeHost]]
TOLD = ("tombstone.told", "tombstone.forgotten")
"""Where a controller is killed while a host that is back is told what to remove."""

THEIRS = {"image": "any", "type": "fake", "id": "theirs", "mem": 16}


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hosts are asked all the time."""
    monkeypatch.setattr(tombstones, "ASK_EVERY_S", 0.3)
    monkeypatch.setattr(tombstones, "SOON_S", 0.1)


@pytest.fixture
def silent(cloud: Cloud, fake_nodes: MakeNodes) -> FakeHost:
    """A host that fell silent with two machines of the cloud and one of its own, which run on; and another node."""
    host, _ = fake_nodes(2)
    cloud.add(id="web", node="n1", on_node_failure=NodeFailurePolicy.RECREATE)
    cloud.add(id="db", node="n1", on_node_failure=NodeFailurePolicy.STAY)
    host.client.machines.add(THEIRS)
    host.stop()
    node_is(cloud, "n1", NodeState.UNREACHABLE)
    return host


def remove(cloud: Cloud) -> str:
    """Remove the silent node; what its operation says in the end."""
    with pytest.raises(Conflict):
        cloud.controller.nodes.remove("n1")
    operation = cloud.finished(cloud.controller.nodes.remove("n1", force=True))
    assert operation.state is OperationState.DONE, operation
    assert [node.name for node in cloud.controller.nodes.list()] == ["n2"]
    assert cloud.ids() == []  # forced removal proves nothing, so that nothing of it is made elsewhere
    return operation.message


def findings(cloud: Cloud) -> list[tuple[str, bool]]:
    return [(each.subject, each.certain) for each in cloud.controller.audit()]


def told(cloud: Cloud) -> list[str]:
    return [event.reason for event in cloud.controller.events.since(0, 1000) if event.kind == "returned"]


def is_over(cloud: Cloud, host: FakeHost) -> None:
    """Wait until nothing of the cloud is left on the host, and nothing amiss."""
    eventually("only theirs runs", lambda: host.running() == ["theirs"], words=host.running)
    eventually("theirs alone is there", lambda: [each.id for each in host.agent.machines.list()] == ["theirs"])
    eventually("nobody is asked any more", lambda: findings(cloud) == [], words=lambda: findings(cloud))


def test_what_was_removed_with_a_silent_node_ends_there_when_it_is_back(cloud: Cloud, silent: FakeHost) -> None:
    assert "may run on at 127.0.0.1" in remove(cloud)
    assert silent.running() == ["db", "theirs", "web"]
    assert findings(cloud) == [("node n1", False)]
    cloud.add(id="web")  # another machine, which has nothing to do with the one that runs on
    cloud.reopen()
    assert findings(cloud) == [("node n1", False)]
    silent.start()
    is_over(cloud, silent)
    assert cloud.settled("web").state is State.RUNNING
    eventually("it is told", lambda: any("removed there: db, web" in each for each in told(cloud)))
    cloud.sound()


def test_another_agent_at_the_address_is_left_alone(cloud: Cloud, silent: FakeHost) -> None:
    own = silent.settings
    remove(cloud)
    silent.replace_agent(cloud.root)
    mine = silent.client.machines.add({**THEIRS, "id": "web"})
    detail = "another agent answers there"
    eventually(
        "a stranger is told of",
        lambda: any(detail in each.detail for each in cloud.controller.audit()),
        cloud.controller.audit,
    )
    assert silent.client.machines.get("web") == mine
    assert silent.client.leases.list() == []
    silent.stop()
    silent._settings = own
    silent.start()
    is_over(cloud, silent)


def test_a_removal_that_is_under_way_is_not_taken_for_a_node_that_is_back(
    cloud: Cloud, silent: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = threading.Semaphore(0)
    look, reach = tombstones.Tombstones._look, remove_node.reach

    def looked(asker: tombstones.Tombstones) -> None:
        look(asker)
        looks.release()

    def wait_for_a_whole_look(place: str) -> None:
        reach(place)
        if place == "node.forget.recorded":
            while looks.acquire(blocking=False):
                pass
            assert looks.acquire(timeout=LIMIT_S)  # it may have begun before the tombstone was there
            assert looks.acquire(timeout=LIMIT_S)

    monkeypatch.setattr(tombstones.Tombstones, "_look", looked)
    monkeypatch.setattr(remove_node, "reach", wait_for_a_whole_look)
    assert "may run on at 127.0.0.1" in remove(cloud)
    assert findings(cloud) == [("node n1", False)]
    silent.start()
    is_over(cloud, silent)


def test_a_machine_that_had_failed_may_run_too(cloud: Cloud, fake_nodes: MakeNodes) -> None:
    host, _ = fake_nodes(2)
    cloud.add(id="web", node="n1", restart=RestartPolicy.NO)
    host.client.machines.add(THEIRS)
    host.world.kill("web")
    machine_is(cloud, "web", State.FAILED)
    host.hide()
    node_is(cloud, "n1", NodeState.UNREACHABLE)
    host.agent.machines.wish("web", HostWish.RUNNING)  # by somebody on the host
    eventually("it runs", lambda: host.running() == ["theirs", "web"], words=host.running)
    assert cloud.controller.machines.get("web").state is State.FAILED
    assert "web may run on at 127.0.0.1" in remove(cloud)
    host.open()
    is_over(cloud, host)


def test_a_host_that_is_added_again_gives_up_what_was_removed_with_it(cloud: Cloud, silent: FakeHost) -> None:
    silent.stop()
    remove(cloud)
    cloud.close_controller()
    silent.start()
    tombstones.ASK_EVERY_S = 3600.0
    eventually("the node joins", lambda: cloud.join(silent).state is NodeState.READY)
    is_over(cloud, silent)
    assert cloud.add(id="web", node="n1").state is State.RUNNING
    cloud.sound()


def test_a_host_whose_death_was_proven_is_asked_too_and_makes_no_noise(cloud: Cloud, silent: FakeHost) -> None:
    cloud.controller.nodes.confirm_dead("n1")
    eventually("web is elsewhere", lambda: cloud.controller.machines.get("web").node == "n2")
    cloud.settled("web")
    assert cloud.finished(cloud.controller.nodes.remove("n1", force=True)).state is OperationState.DONE
    cloud.sound()
    silent.start()
    is_over(cloud, silent)
    assert cloud.settled("web").state is State.RUNNING
    cloud.sound()


def test_a_controller_that_dies_while_it_tells_a_host_is_followed_by_one_that_does(
    cloud: Cloud, silent: FakeHost
) -> None:
    remove(cloud)
    cloud.close_controller()
    silent.start()
    for place in TOLD:
        with process(Watch(cloud.settings, (), place)) as child:
            child.join(LIMIT_S)
            assert child.exitcode == EXIT_CODE, place
    is_over(cloud, silent)
    cloud.sound()
