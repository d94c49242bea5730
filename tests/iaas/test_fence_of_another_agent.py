"""A node whose agent lost what it knew: what its host says by SSH proves what the marks of its machines say, and nothing else."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.iaas.clouds import Cloud, FakeHost, eventually, machine_is, node_is
from tests.iaas.test_failover_by_lease import never_twice

from garbi.base.child import Ended
from garbi.base.errors import FenceFailed, GarbiError
from garbi.hyper.watchdog.opening import open_fence
from garbi.hyper_api.vocabulary import NodeFailurePolicy, State
from garbi.iaas.fences.protocol import Proof, Scope
from garbi.iaas.fences.ssh import read_proof
from garbi.iaas.model.node import Node, NodeState


class HostFence:
    """Runs the real fence of a host, and reads its answer as that of SSH is read."""

    name = "ssh"

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self.before: list[threading.Event] = []

    def applies_to(self, node: Node) -> str | None:
        return None

    def prove(self, node: Node, cancelled: threading.Event) -> Proof:
        host = next(each for each in self._cloud.hosts if each.name == node.name)
        try:
            report = open_fence(host.settings, simulated=True).fence(self._cloud.controller.cluster_id, node.lease)
        except GarbiError as error:
            raise FenceFailed(error.detail) from error
        said = f"garbi-fence {0 if report.proven else 1} {json.dumps(report.to_document())}\n"
        return read_proof(Ended(0, said, ""), node)


@pytest.fixture
def hosts(cloud: Cloud, tmp_path: Path) -> Iterator[list[FakeHost]]:
    """Two nodes whose engines are not in the directories of their agents; `m` and `stays` run on the second."""
    cloud.fences = [HostFence(cloud)]
    for name in ("n1", "n2"):
        engine = tmp_path / f"engine-{name}"
        engine.mkdir()
        cloud.join(cloud.host({"engine": str(engine)}))
    cloud.add(id="m", node="n2")
    cloud.add(id="stays", node="n2", on_node_failure=NodeFailurePolicy.STAY)
    yield cloud.hosts
    for host in cloud.hosts:
        host.data_dir.mkdir(exist_ok=True)


def empty(data_dir: Path) -> None:
    for each in data_dir.iterdir():
        shutil.rmtree(each) if each.is_dir() else each.unlink()


def test_an_agent_that_begins_anew_on_an_empty_directory_proves_nothing_of_the_one_before(
    cloud: Cloud, hosts: list[FakeHost]
) -> None:
    before = cloud.controller.nodes.get("n2").cluster_id
    with never_twice(cloud, "m"):
        hosts[1].stop()
        empty(hosts[1].data_dir)
        hosts[1].start()
        hosts[1].hide()
        eventually(
            "it is said why nothing is proven",
            lambda: f"and node n2 is agent {before[:8]}" in cloud.controller.nodes.get("n2").reason,
            words=lambda: cloud.controller.nodes.get("n2"),
        )
        assert cloud.controller.nodes.get("n2").state is not NodeState.UNAVAILABLE
        assert hosts[0].running() == []
    assert hosts[1].running() == ["stays"]  # what might run elsewhere one day does not run on


def test_where_the_directory_is_lost_the_marks_prove_what_they_say(cloud: Cloud, hosts: list[FakeHost]) -> None:
    with never_twice(cloud, "m"):
        hosts[1].stop()
        empty(hosts[1].data_dir)
        node_is(cloud, "n2", NodeState.UNAVAILABLE)
        eventually("m runs elsewhere", lambda: hosts[0].running() == ["m"])
        machine_is(cloud, "m", State.RUNNING)
    assert hosts[1].running() == ["stays"]
    assert "was left there as it was" in machine_is(cloud, "stays", State.UNKNOWN).reason


def test_where_the_directory_is_lost_what_is_not_found_is_not_taken_for_stopped(
    cloud: Cloud, hosts: list[FakeHost]
) -> None:
    cloud.add(id="other", node="n2")
    hosts[1].stop()
    empty(hosts[1].data_dir)
    hosts[1].world.uproot(hosts[1].world.machine("m").key)
    node_is(cloud, "n2", NodeState.UNAVAILABLE)
    eventually("other runs elsewhere", lambda: hosts[0].running() == ["other"])
    assert machine_is(cloud, "m", State.UNKNOWN).node == "n2"


def test_what_the_host_left_is_not_lost_whatever_the_row_says(cloud: Cloud, hosts: list[FakeHost]) -> None:
    class Left(HostFence):
        def prove(self, node: Node, cancelled: threading.Event) -> Proof:
            return Proof(self.name, Scope.RECREATABLE, "it stays", left=frozenset({"m"}))

    cloud.fences = [Left(cloud)]
    cloud.reopen()
    with never_twice(cloud, "m"):
        hosts[1].stop()
        node_is(cloud, "n2", NodeState.UNAVAILABLE)
        machine_is(cloud, "m", State.UNKNOWN)
        assert hosts[0].running() == []
