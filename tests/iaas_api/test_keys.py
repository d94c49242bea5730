"""`Idempotency-Key`: a request that comes again is answered with what there is by then, and changes nothing."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from tests.free_ports import free_port
from tests.iaas_api.conftest import SPEC, Cloud, eventually

KEY = {"Idempotency-Key": "k1"}
PATIENT = {**KEY, "Prefer": "wait=60"}
AWAY = {**KEY, "Prefer": "respond-async"}


@pytest.fixture
def node(empty_cloud: Cloud) -> Cloud:
    """A cloud of one node."""
    empty_cloud.add_node("n1")
    return empty_cloud


def taken(port: int) -> dict[str, Any]:
    """A machine that its node will refuse while another process has that port."""
    return {**SPEC, "node": "n1", "ports": [{"node_port": port, "machine_port": 80}]}


def refused_meanwhile(cloud: Cloud, spec: dict[str, Any]) -> dict[str, Any]:
    """A machine that its node refuses when nobody waits any more."""
    made = cloud.ask("POST", "/iaas/machines", spec, AWAY).json()
    eventually(lambda: cloud.client.machines.get(made["id"])["state"] == "failed", "the refusal is written down")
    return made


@pytest.mark.parametrize("again", [PATIENT, AWAY, {**KEY, "Prefer": "wait=1"}])
def test_a_create_that_failed_when_nobody_waited_is_there_however_often_it_is_asked_for_again(
    node: Cloud, again: dict[str, str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        spec = taken(other.getsockname()[1])
        made = refused_meanwhile(node, spec)
        before = node.ask("GET", f"/iaas/machines/{made['id']}").json()
        answers = [node.ask("POST", "/iaas/machines", spec, again) for _ in range(3)]
        after = node.ask("GET", f"/iaas/machines/{made['id']}")
    assert [(each.status, each.json()["id"], each.json()["state"]) for each in answers] == [
        (201, made["id"], "failed")
    ] * 3
    assert "pid" in answers[0].json()["reason"]
    assert after.status == 200, after.body
    assert {**after.json(), "seen_at": None} == {**before, "seen_at": None}
    assert node.controller.audit() == []


def test_what_a_key_made_and_its_user_removed_is_not_made_again(node: Cloud) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        spec = taken(other.getsockname()[1])
        made = refused_meanwhile(node, spec)
    assert node.ask("DELETE", f"/iaas/machines/{made['id']}").status == 204
    again = node.ask("POST", "/iaas/machines", spec, PATIENT)
    assert (again.status, again.json()["code"]) == (404, "not-found")
    assert "was removed" in again.json()["detail"]
    assert node.ask("GET", "/iaas/machines").json() == []


def test_what_its_user_has_started_since_is_not_withdrawn_by_the_request_that_made_it(node: Cloud) -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        made = refused_meanwhile(node, taken(port))
    assert node.client.machines.wish(made["id"], "running")["state"] == "running"
    again = node.ask("POST", "/iaas/machines", taken(port), PATIENT)
    assert (again.status, again.json()["id"], again.json()["state"]) == (201, made["id"], "running")
    node.client.machines.wish(made["id"], "stopped")
    assert node.ask("POST", "/iaas/machines", taken(port), PATIENT).json()["state"] == "stopped"
    assert [each["state"] for each in node.client.machines.list()] == ["stopped"]


def test_a_refusal_that_was_answered_leaves_the_key_free(node: Cloud) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        spec = taken(other.getsockname()[1])
        assert node.ask("POST", "/iaas/machines", spec, PATIENT).json()["code"] == "port-taken"
        assert node.ask("GET", "/iaas/machines").json() == []
    assert node.ask("POST", "/iaas/machines", spec, PATIENT).json()["state"] == "running"
