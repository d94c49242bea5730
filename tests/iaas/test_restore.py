"""A controller on a database that is older than what its nodes remember says so, does nothing, and goes on when told to."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from tests.iaas.clouds import Cloud, FakeHost, eventually, machine_is, machine_spec, node_is

from garbi.base.checks import CheckStatus
from garbi.base.errors import FinalError
from garbi.hyper_api.vocabulary import State, Wish
from garbi.iaas import doctor
from garbi.iaas.main import open_controller
from garbi.iaas.model.node import NodeState
from garbi.iaas.model.operation import OperationState
from garbi.iaas.monitor.rivals import RIVAL
from garbi.iaas.settings import DATABASE

MakeNodes = Callable[..., list[FakeHost]]


@dataclass
class Restored:
    """A cloud whose database was put back to an earlier time, after which a machine came, one moved and one went."""

    cloud: Cloud
    hosts: list[FakeHost]

    def runs(self) -> dict[str, list[tuple[str, int]]]:
        """What runs on each host, and how often each was started there."""
        return {
            host.name: [(each.id, each.power_ons) for each in host.world.machines() if each.powered]
            for host in self.hosts
        }

    def reasons(self) -> list[str]:
        return [node.reason for node in self.cloud.controller.nodes.list()]

    def open_after_restore(self) -> None:
        """What the operator does."""
        self.cloud.close_controller()
        self.cloud._controller = open_controller(self.cloud.settings, after_restore=True)


def back_up(cloud: Cloud, place: Path) -> None:
    """Copy the directory of the controller, which does not run."""
    shutil.copytree(cloud.settings.data_dir, place)


def put_back(cloud: Cloud, place: Path) -> None:
    for path in cloud.settings.data_dir.glob(f"{DATABASE}*"):
        path.unlink()
    for path in place.glob(f"{DATABASE}*"):
        shutil.copy2(path, cloud.settings.data_dir)


@pytest.fixture
def restored(cloud: Cloud, fake_nodes: MakeNodes) -> Restored:
    hosts = fake_nodes(3)
    for machine_id, node in (("keeps", "n3"), ("moves", "n1"), ("goes", "n2"), ("changes", "n3")):
        cloud.add(id=machine_id, node=node)
    cloud.add(id="comes", node="n2")  # not the one that comes later
    cloud.controller.machines.remove("comes")
    cloud.gone("comes")
    cloud.close_controller()
    back_up(cloud, cloud.root / "backup")
    controller = cloud.controller
    controller.machines.add(machine_spec(id="comes", node="n2"))
    cloud.settled("comes")
    drained = cloud.finished(controller.nodes.drain("n1"))
    assert drained.state is OperationState.DONE
    controller.nodes.undrain("n1")
    for wish in (Wish.STOPPED, Wish.RUNNING, Wish.STOPPED, Wish.RUNNING):
        controller.machines.wish("changes", wish)
        cloud.settled("changes")
    controller.machines.remove("goes")
    cloud.gone("goes")
    cloud.reopen()
    eventually("all nodes obey it", lambda: all(host.client.leases.list()[0]["term"] == 3 for host in hosts))
    cloud.close_controller()
    put_back(cloud, cloud.root / "backup")
    return Restored(cloud, hosts)


def test_what_is_amiss_is_said_and_nothing_happens(restored: Restored, caplog: pytest.LogCaptureFixture) -> None:
    cloud, before = restored.cloud, restored.runs()
    eventually("it is said of each node", lambda: all(reason.startswith(RIVAL) for reason in restored.reasons()))
    (reason,) = set(restored.reasons())
    assert "term 3" in reason
    assert "the term of this one is 2" in reason
    assert "restore from a backup" in reason
    assert "iaas serve --after-restore" in reason
    assert [record.message for record in caplog.records].count("node obeys another controller") == 3
    found = doctor.check_obedience(cloud.settings)
    assert found is not None
    assert (found.status, "n1, n2, n3" in found.found) == (CheckStatus.FAIL, True)
    assert "iaas serve --after-restore" in found.mend
    cloud.controller.machines.wish("keeps", Wish.STOPPED)
    restored.hosts[2].hide()
    node_is(cloud, "n3", NodeState.UNREACHABLE)
    tried = "no fence is tried: node n1: it obeys another controller"
    eventually("nothing is proven", lambda: tried in cloud.controller.nodes.get("n3").reason)
    restored.hosts[2].open()
    node_is(cloud, "n3", NodeState.READY)
    assert restored.runs() == before


def test_an_operator_has_it_learn_from_the_nodes_and_nothing_runs_twice_or_is_lost_unseen(restored: Restored) -> None:
    cloud, before = restored.cloud, restored.runs()
    there = next(name for name, machines in before.items() if "moves" in dict(machines))
    assert there != "n1"
    eventually("it is said of each node", lambda: all(reason.startswith(RIVAL) for reason in restored.reasons()))
    restored.open_after_restore()
    controller = cloud.controller
    eventually("they obey again", lambda: set(restored.reasons()) == {""})
    assert controller.leadership.term == 4
    for machine_id in ("keeps", "moves", "changes"):
        machine_is(cloud, machine_id, State.RUNNING)
    assert controller.machines.get("moves").node == there
    gone = machine_is(cloud, "goes", State.FAILED)
    assert (gone.wish, gone.reason) == (Wish.STOPPED, "it disappeared from node n2")
    eventually(
        "all is known", lambda: [(each.invariant, each.subject) for each in controller.audit()] == [("I5", "comes")]
    )
    assert restored.runs() == before
    check_in_command(restored, there)


def check_in_command(restored: Restored, there: str) -> None:
    """What is asked for now is done; what is drained or removed runs nowhere twice, and what nobody knows runs on."""
    cloud = restored.cloud
    controller = cloud.controller
    for machine_id in ("moves", "changes"):
        controller.machines.wish(machine_id, Wish.STOPPED)
        assert cloud.settled(machine_id).state is State.STOPPED
        controller.machines.wish(machine_id, Wish.RUNNING)
        assert cloud.settled(machine_id).state is State.RUNNING
    assert cloud.finished(controller.nodes.drain(there)).state is OperationState.DONE
    controller.machines.remove("goes")
    cloud.gone("goes")
    names = [name for machines in restored.runs().values() for name, _ in machines]
    assert sorted(names) == ["changes", "comes", "keeps", "moves"]
    assert controller.machines.get("moves").node != there
    cloud.close_controller()
    cloud.reopen()
    eventually("as before", lambda: [each.subject for each in cloud.controller.audit()] == ["comes"])


def test_a_controller_beside_one_that_works_is_not_let_in_and_changes_nothing(restored: Restored) -> None:
    cloud = restored.cloud
    restored.open_after_restore()
    eventually("they obey again", lambda: set(restored.reasons()) == {""})
    before = restored.runs()
    copy = replace(cloud.settings, data_dir=cloud.root / "backup")
    with pytest.raises(FinalError, match="another controller of this cloud works: it renewed the lease of node n"):
        open_controller(copy, after_restore=True)
    rival = open_controller(copy)
    try:
        eventually("it is refused", lambda: all(node.reason.startswith(RIVAL) for node in rival.nodes.list()))
        rival.machines.remove("keeps")
        eventually("it could not", lambda: "keeps" in [each.id for each in rival.machines.list()])
    finally:
        rival.close()
    assert restored.runs() == before
    assert set(restored.reasons()) == {""}


def test_where_no_node_answers_nothing_is_learnt_and_nothing_changed(restored: Restored) -> None:
    for host in restored.hosts:
        host.stop()
    with pytest.raises(FinalError, match="no node answers"):
        open_controller(restored.cloud.settings, after_restore=True)
    for host in restored.hosts:
        host.start()
    restored.open_after_restore()
    eventually("they obey again", lambda: set(restored.reasons()) == {""})
