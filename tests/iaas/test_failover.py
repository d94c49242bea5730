"""A node falls silent: its machines run elsewhere once it is proven that they run there no more, and not before."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import pytest
from tests.iaas.clouds import LIMIT_S, Cloud, FakeHost, eventually, machine_is, machine_spec, node_is

from garbi.base.errors import Conflict, FenceFailed, NotFound
from garbi.hyper.leases.files import LeaseFiles
from garbi.hyper.settings import runtime_of
from garbi.hyper_api.vocabulary import NodeFailurePolicy, State, Wish
from garbi.iaas.fences.protocol import Proof, Scope
from garbi.iaas.loops import failover
from garbi.iaas.model.event import Event
from garbi.iaas.model.machine import Machine
from garbi.iaas.model.node import Node, NodeState
from garbi.iaas.store.events import Kind

MakeNodes = Callable[..., list[FakeHost]]
STAY = NodeFailurePolicy.STAY


class Rescue:
    """A fence that does on a host what `hyper fence` does there: it ends the lease and what runs under it."""

    name = "rescue"

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self.scope = Scope.RECREATABLE
        self.barred: str | None = None
        self.tried: list[str] = []
        self.hold = threading.Event()
        self.hold.set()
        self.reached = threading.Event()

    def applies_to(self, node: Node) -> str | None:
        return None

    def prove(self, node: Node, cancelled: threading.Event) -> Proof:
        self.tried.append(node.name)
        self.reached.set()
        while not self.hold.is_set() and not cancelled.is_set():
            self.hold.wait(0.05)
        if self.barred is not None:
            raise FenceFailed(self.barred)
        self.stop(next(host for host in self._cloud.hosts if host.name == node.name), node.lease)
        return Proof(self.name, self.scope, "every machine was stopped")

    def stop(self, host: FakeHost, number: int) -> None:
        """End what runs on a host under a lease; with it all that runs there where the whole host is meant."""
        LeaseFiles(host.data_dir, runtime_of(host.data_dir)).fence(self._cloud.controller.cluster_id, number)
        for machine in host.world.machines():
            kept = self.scope is Scope.RECREATABLE and machine.id.startswith("stay")
            if machine.powered and not kept:
                host.world.kill(machine.id)


@pytest.fixture
def rescue(cloud: Cloud) -> Rescue:
    made = Rescue(cloud)
    cloud.fences = [made]
    return made


def words_of(cloud: Cloud, kind: str, name: str) -> list[str]:
    """What was told of a node."""
    return [event.reason for event in history(cloud) if (event.kind, event.id) == (kind, name)]


def history(cloud: Cloud) -> Sequence[Event]:
    return cloud.controller.events.since(0, 10_000)


def everywhere(cloud: Cloud) -> list[str]:
    """The machines that run, on every host."""
    return sorted(machine for host in cloud.hosts for machine in host.running())


def runs_on(cloud: Cloud, machine_id: str, *names: str) -> str:
    """The node on which a machine runs, once it runs on one of these."""

    def there() -> Machine:
        return cloud.controller.machines.get(machine_id)

    eventually(f"{machine_id} on {names}", lambda: there().state is State.RUNNING and str(there().node) in names, there)
    return str(there().node)


def test_machines_of_a_node_that_is_proven_dead_run_elsewhere(
    cloud: Cloud, rescue: Rescue, fake_nodes: MakeNodes
) -> None:
    hosts = fake_nodes(3)
    for number in range(4):
        cloud.add(id=f"m{number}", node="n1")
    cloud.add(id="stay", node="n1", on_node_failure=STAY)
    hosts[0].stop()
    dead = node_is(cloud, "n1", NodeState.UNAVAILABLE)
    assert "fenced by rescue: every machine was stopped" in dead.reason
    for number in range(4):
        runs_on(cloud, f"m{number}", "n2", "n3")
    assert sorted(len(host.running()) for host in hosts[1:]) == [2, 2]
    stay = machine_is(cloud, "stay", State.UNKNOWN)
    assert "was left there as it was" in stay.reason
    assert hosts[0].running() == ["stay"]
    assert everywhere(cloud) == ["m0", "m1", "m2", "m3", "stay"]
    eventually("an explanation", lambda: words_of(cloud, Kind.FAILOVER, "n1"))
    (words,) = words_of(cloud, Kind.FAILOVER, "n1")
    assert words.startswith("4 created again elsewhere (m0 to n2: chosen by spread")
    assert "1 stays on its node by its policy (stay)" in words
    moved = [event for event in history(cloud) if event.id == "m0" and event.state == State.FAILED]
    assert [event.actor for event in moved] == ["fence:rescue"]
    cloud.sound()


def test_a_proof_that_covers_the_whole_host_covers_what_stays(
    cloud: Cloud, rescue: Rescue, fake_nodes: MakeNodes
) -> None:
    rescue.scope = Scope.ALL
    hosts = fake_nodes(3)
    cloud.add(id="stay", node="n1", on_node_failure=STAY)
    hosts[0].stop()
    stay = machine_is(cloud, "stay", State.FAILED)
    assert stay.node == "n1"
    assert stay.reason.startswith("lost with node n1: fenced by rescue")
    hosts[0].start()
    node_is(cloud, "n1", NodeState.READY)
    machine_is(cloud, "stay", State.RUNNING)  # its own host started it again
    cloud.sound()


def test_without_a_proof_nothing_moves_and_what_to_do_is_said(
    cloud: Cloud, rescue: Rescue, fake_nodes: MakeNodes
) -> None:
    rescue.barred = "no way to the host"
    hosts = fake_nodes(3)
    cloud.add(id="m", node="n1")
    hosts[0].stop()
    eventually("a word about it", lambda: words_of(cloud, Kind.FENCE, "n1"))
    node = cloud.controller.nodes.get("n1")
    assert node.state is NodeState.UNREACHABLE
    assert node.reason.startswith("no answer since ")
    assert "not proven dead: rescue: no way to the host; lease: its lease does not end by itself" in node.reason
    assert "only then: iaas node confirm-dead n1" in node.reason
    assert machine_is(cloud, "m", State.UNKNOWN).node == "n1"
    assert everywhere(cloud) == ["m"]
    hosts[0].start()
    runs_on(cloud, "m", "n1")
    cloud.sound()


def test_what_could_not_be_proven_is_tried_again(
    cloud: Cloud, rescue: Rescue, fake_nodes: MakeNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failover, "PAUSES_S", (0.2, 0.4))
    rescue.barred = "not now"
    hosts = fake_nodes(3)
    cloud.add(id="m", node="n1")
    hosts[0].stop()
    eventually("three attempts", lambda: len(rescue.tried) >= 3)
    assert len(words_of(cloud, Kind.FENCE, "n1")) == 1  # the same is not said twice
    rescue.barred = None
    runs_on(cloud, "m", "n2", "n3")
    cloud.sound()


def test_an_operators_word_is_a_proof(cloud: Cloud, rescue: Rescue, fake_nodes: MakeNodes) -> None:
    rescue.barred = "no way to the host"
    hosts = fake_nodes(3)
    cloud.add(id="m", node="n1")
    cloud.add(id="stay", node="n1", on_node_failure=STAY)
    with pytest.raises(Conflict):
        cloud.controller.nodes.confirm_dead("n1")
    hosts[0].stop()
    eventually("a word about it", lambda: words_of(cloud, Kind.FENCE, "n1"))
    rescue.scope = Scope.ALL
    rescue.stop(hosts[0], 1)
    dead = cloud.controller.nodes.confirm_dead("n1")
    assert dead.state is NodeState.UNAVAILABLE
    assert dead.reason.startswith("an operator says that it is dead: no answer since")
    assert "confirm-dead" not in dead.reason
    assert machine_is(cloud, "stay", State.FAILED).node == "n1"
    runs_on(cloud, "m", "n2", "n3")
    with pytest.raises(Conflict):
        cloud.controller.nodes.confirm_dead("n1")
    cloud.sound()


def test_an_operators_word_covers_what_a_fence_left(cloud: Cloud, rescue: Rescue, fake_nodes: MakeNodes) -> None:
    hosts = fake_nodes(3)
    cloud.add(id="stay", node="n1", on_node_failure=STAY)
    hosts[0].stop()
    node_is(cloud, "n1", NodeState.UNAVAILABLE)
    machine_is(cloud, "stay", State.UNKNOWN)
    hosts[0].world.kill("stay")
    cloud.controller.nodes.confirm_dead("n1")
    machine_is(cloud, "stay", State.FAILED)
    with pytest.raises(Conflict):
        cloud.controller.nodes.confirm_dead("n1")


def test_a_node_that_answers_before_the_proof_is_written_keeps_its_machines(
    cloud: Cloud, rescue: Rescue, fake_nodes: MakeNodes
) -> None:
    rescue.hold.clear()
    hosts = fake_nodes(3)
    cloud.add(id="m", node="n1")
    hosts[0].hide()
    assert rescue.reached.wait(LIMIT_S)
    hosts[0].open()
    node_is(cloud, "n1", NodeState.READY)
    rescue.hold.set()
    runs_on(cloud, "m", "n1")
    assert not [event for event in history(cloud) if event.kind == Kind.MOVED]
    eventually("told again", lambda: everywhere(cloud) == ["m"] and runs_on(cloud, "m", "n1"))
    cloud.sound()


def test_a_node_that_was_fenced_and_answers_in_time_is_told_its_machines_again(
    cloud: Cloud, rescue: Rescue, fake_nodes: MakeNodes
) -> None:
    hosts = fake_nodes(3)
    cloud.add(id="m", node="n1")
    rescue.stop(hosts[0], 1)
    eventually("another lease", lambda: words_of(cloud, Kind.LEASE, "n1"))
    eventually("it runs again", lambda: everywhere(cloud) == ["m"])
    runs_on(cloud, "m", "n1")
    cloud.sound()


def test_a_node_that_comes_back_drops_the_copies_and_keeps_their_disks(
    cloud: Cloud, rescue: Rescue, fake_nodes: MakeNodes
) -> None:
    hosts = fake_nodes(3)
    cloud.add(id="moved", node="n1", ports=((18080, 80),))
    cloud.add(id="removed", node="n1")
    hosts[0].stop()
    where = runs_on(cloud, "moved", "n2", "n3")
    runs_on(cloud, "removed", "n2", "n3")
    cloud.controller.machines.remove("removed")
    cloud.gone("removed")
    hosts[0].start()
    node_is(cloud, "n1", NodeState.READY)
    assert hosts[0].client.machines.list() == []
    assert [each["name"] for each in hosts[0].client.kept.list()] == ["moved.1"]
    assert everywhere(cloud) == ["moved"]
    (words,) = words_of(cloud, Kind.RETURNED, "n1")
    assert f"moved (now on {where})" in words
    assert "removed machines that were removed while it was away: removed" in words
    (back,) = [event for event in history(cloud) if (event.kind, event.id) == (Kind.RETURNED, "n1")]
    assert back.actor == "node:n1"
    cloud.sound()


def test_a_published_port_goes_with_its_machine_to_a_node_where_it_is_free(
    cloud: Cloud, rescue: Rescue, fake_nodes: MakeNodes
) -> None:
    hosts = fake_nodes(3)
    cloud.add(id="other", node="n2", ports=((18080, 80),))
    cloud.add(id="web", node="n1", ports=((18080, 80),))
    hosts[0].stop()
    runs_on(cloud, "web", "n3")
    assert [port.node_port for port in cloud.controller.machines.get("web").ports] == [18080]
    cloud.sound()


def test_a_host_where_a_stranger_has_the_port_is_passed_over(
    cloud: Cloud, rescue: Rescue, fake_nodes: MakeNodes
) -> None:
    hosts = fake_nodes(3)
    cloud.add(id="web", node="n1", ports=((18080, 80),))
    theirs = {"image": "any", "type": "fake", "id": "theirs", "ports": [{"node_port": 18080, "machine_port": 80}]}
    hosts[1].client.machines.add(theirs)
    hosts[0].stop()
    runs_on(cloud, "web", "n3")
    refused = [event.reason for event in history(cloud) if (event.id, event.actor) == ("web", "node:n2")]
    assert any("18080" in reason for reason in refused)


def test_what_fits_nowhere_is_created_again_when_there_is_room(
    cloud: Cloud, rescue: Rescue, fake_nodes: MakeNodes
) -> None:
    hosts = fake_nodes(3, mem=100)
    cloud.add(id="big", node="n1", mem=80)
    cloud.add(id="second", node="n2", mem=80)
    cloud.add(id="third", node="n3", mem=80)
    hosts[0].stop()
    eventually("a word about it", lambda: "fits nowhere" in cloud.controller.machines.get("big").reason)
    big = machine_is(cloud, "big", State.FAILED)
    assert big.reason.endswith("; fits nowhere: memory on 2 nodes")
    eventually("an explanation", lambda: words_of(cloud, Kind.FAILOVER, "n1"))
    assert words_of(cloud, Kind.FAILOVER, "n1") == ["1 fits nowhere, and is tried again (big: memory on 2 nodes)"]
    cloud.controller.machines.remove("second")
    runs_on(cloud, "big", "n2")
    cloud.sound()


def test_what_fits_nowhere_stays_with_its_node_when_that_comes_back(
    cloud: Cloud, rescue: Rescue, fake_nodes: MakeNodes
) -> None:
    hosts = fake_nodes(2, mem=100)
    cloud.add(id="big", node="n1", mem=80)
    cloud.add(id="second", node="n2", mem=80)
    hosts[0].stop()
    eventually("a word about it", lambda: "fits nowhere" in cloud.controller.machines.get("big").reason)
    assert everywhere(cloud) == ["second"]
    hosts[0].start()
    runs_on(cloud, "big", "n1")
    assert everywhere(cloud) == ["big", "second"]
    assert hosts[0].client.kept.list() == []
    cloud.sound()


def test_machines_of_a_dead_node_can_be_removed_stopped_and_started(
    cloud: Cloud, rescue: Rescue, fake_nodes: MakeNodes
) -> None:
    rescue.scope = Scope.ALL
    hosts = fake_nodes(2, mem=100)
    cloud.add(id="big", node="n1", mem=40)
    cloud.add(id="gone", node="n1", mem=40, on_node_failure=STAY)
    cloud.add(id="second", node="n2", mem=80)
    hosts[0].stop()
    machine_is(cloud, "big", State.FAILED)
    cloud.controller.machines.remove("gone")
    cloud.gone("gone")
    cloud.controller.machines.wish("big", Wish.STOPPED)
    assert cloud.settled("big").state is State.STOPPED
    cloud.controller.machines.remove("second")
    cloud.gone("second")
    assert cloud.controller.machines.get("big").node == "n1"  # what is wished stopped goes nowhere
    cloud.controller.machines.wish("big", Wish.RUNNING)
    runs_on(cloud, "big", "n2")
    again = cloud.add(id="gone", node="n2", mem=16)
    hosts[0].start()
    node_is(cloud, "n1", NodeState.READY)
    eventually("one copy", lambda: everywhere(cloud) == ["big", "gone"], lambda: everywhere(cloud))
    assert again.epoch > 1
    assert hosts[0].client.machines.list() == []
    cloud.sound()


def test_when_too_many_nodes_seem_dead_at_once_nothing_moves(
    cloud: Cloud, rescue: Rescue, fake_nodes: MakeNodes
) -> None:
    rescue.hold.clear()
    hosts = fake_nodes(3)
    cloud.add(id="m1", node="n1")
    cloud.add(id="m2", node="n2")
    for host in hosts[:2]:
        host.stop()
    eventually("a word about it", lambda: "too many at once" in cloud.controller.nodes.get("n1").reason)
    eventually("of both", lambda: "too many at once" in cloud.controller.nodes.get("n2").reason)
    rescue.hold.set()
    assert "2 of 3 nodes seem dead at once (n1, n2)" in cloud.controller.nodes.get("n2").reason
    assert machine_is(cloud, "m1", State.UNKNOWN).node == "n1"
    rescue.stop(hosts[0], 1)
    cloud.controller.nodes.confirm_dead("n1")
    runs_on(cloud, "m1", "n3")
    assert cloud.controller.nodes.get("n2").state is NodeState.UNREACHABLE
    assert cloud.controller.machines.get("m2").node == "n2"
    hosts[1].start()
    runs_on(cloud, "m2", "n2")
    cloud.sound()


def test_a_second_node_that_dies_while_machines_are_created_there_gives_them_on(
    cloud: Cloud, rescue: Rescue, fake_nodes: MakeNodes
) -> None:
    hosts = fake_nodes(7)
    for host in hosts[1:]:
        host.world.fail_next("prepare", "driver-unavailable", machine_id="m", times=None)
    cloud.add(id="m", node="n1")
    hosts[0].stop()
    eventually("it is assigned anew", lambda: cloud.controller.machines.get("m").node != "n1")
    second = str(cloud.controller.machines.get("m").node)
    next(host for host in hosts if host.name == second).stop()
    for host in hosts[1:]:
        host.world.make_available()
    eventually("it is assigned once more", lambda: cloud.controller.machines.get("m").node not in ("n1", second))
    assert cloud.controller.machines.get("m").epoch == 3


def test_a_restarted_controller_moves_nothing_that_it_need_not(
    cloud: Cloud, rescue: Rescue, fake_nodes: MakeNodes
) -> None:
    hosts = fake_nodes(3)
    cloud.add(id="m", node="n1")
    for _ in range(3):
        cloud.reopen()
    hosts[0].hide()
    cloud.reopen()
    hosts[0].open()
    runs_on(cloud, "m", "n1")
    assert not [event for event in history(cloud) if event.kind in (Kind.MOVED, Kind.FENCE)]
    assert rescue.tried == []
    cloud.sound()


def test_a_machine_that_is_gone_from_a_dead_node_is_gone_for_its_user_too(
    cloud: Cloud, rescue: Rescue, fake_nodes: MakeNodes
) -> None:
    hosts = fake_nodes(2, mem=100)
    cloud.add(id="m", node="n1", mem=60)
    cloud.add(id="second", node="n2", mem=60)
    hosts[0].stop()
    machine_is(cloud, "m", State.FAILED)
    cloud.controller.machines.remove("m")
    cloud.gone("m")
    with pytest.raises(NotFound):
        cloud.controller.machines.get("m")
    hosts[0].start()
    node_is(cloud, "n1", NodeState.READY)
    assert hosts[0].client.machines.list() == []
    assert machine_spec(id="m").id == "m"
    cloud.sound()
