"""The development cloud: it is there soon, does what a cloud does, and is gone without a trace."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conformance.bench import eventually
from tests.free_ports import free_port

from garbi.base.errors import PortTaken, Unauthenticated
from garbi.devcloud import DevCloud
from garbi.iaas_api.client import IaasClient

BIN = Path(sys.executable).parent
LIMIT_S = 120.0
FAKE = {"image": "any", "type": "fake"}


@pytest.fixture(scope="module")
def cloud() -> Iterator[DevCloud]:
    with DevCloud(nodes=3) as made:
        yield made


def states(cloud: DevCloud) -> dict[str, str]:
    return {node["name"]: node["state"] for node in cloud.client.nodes.list()}


def test_every_node_is_ready_when_it_has_started(cloud: DevCloud) -> None:
    assert states(cloud) == {"node-1": "ready", "node-2": "ready", "node-3": "ready"}
    assert cloud.client.audit() == []


def test_machines_spread_over_the_nodes(cloud: DevCloud) -> None:
    machines = [cloud.client.machines.add(FAKE) for _ in range(6)]
    assert {machine["state"] for machine in machines} == {"running"}
    assert sorted(machine["node"] for machine in machines) == sorted([*cloud.nodes] * 2)
    for machine in machines:
        cloud.client.machines.remove(machine["id"])


def test_only_who_has_the_token_is_answered(cloud: DevCloud) -> None:
    with pytest.raises(Unauthenticated):
        IaasClient(cloud.url).health()
    assert IaasClient(cloud.url, token=cloud.token_file.read_text().strip()).health()["status"] == "ok"


def test_nodes_have_ports_of_their_own_and_take_none_of_this_host(cloud: DevCloud) -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        published = [{"node_port": port, "machine_port": 80}]
        specs = [{**FAKE, "node": name, "ports": published, "id": f"web-{name}"} for name in cloud.nodes]
        assert {cloud.client.machines.add(spec)["state"] for spec in specs} == {"running"}
        with pytest.raises(PortTaken, match="web-node-1"):
            cloud.client.machines.add({**specs[0], "id": "other"})
    for spec in specs:
        cloud.client.machines.remove(str(spec["id"]))


def test_what_happens_to_a_machine_on_its_node_is_seen_in_the_cloud(cloud: DevCloud) -> None:
    machine = cloud.client.machines.add({**FAKE, "id": "victim", "restart": "no"})
    cloud.nodes[machine["node"]].world.kill("victim", "out of luck")
    eventually("the machine has failed", lambda: state_of(cloud, "victim") == "failed", LIMIT_S)
    assert "out of luck" in cloud.client.machines.get("victim")["reason"]
    cloud.client.machines.remove("victim")


def state_of(cloud: DevCloud, id: str) -> str:
    return str(cloud.client.machines.get(id)["state"])


def test_a_node_can_be_switched_off_and_on(cloud: DevCloud) -> None:
    machine = cloud.client.machines.add({**FAKE, "id": "patient", "node": "node-2"})
    node = cloud.nodes[machine["node"]]
    address = node.address
    node.stop()
    eventually("the node is missed", lambda: states(cloud)["node-2"] == "unreachable", LIMIT_S)
    assert state_of(cloud, "patient") == "unknown"
    node.start()
    eventually("the machine runs again", lambda: state_of(cloud, "patient") == "running", LIMIT_S)
    assert (states(cloud)["node-2"], node.address) == ("ready", address)
    cloud.client.machines.remove("patient")
