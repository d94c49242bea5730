"""/iaas/machines over HTTP: every verb, where it runs, what waits, what is refused and how."""

from __future__ import annotations

import socket
import time
from typing import Any

import pytest
from tests.free_ports import free_port
from tests.iaas_api.conftest import SPEC, Cloud

WEB = {**SPEC, "id": "web"}


@pytest.fixture
def web(cloud: Cloud) -> dict[str, Any]:
    """A running machine called web."""
    return cloud.client.machines.add(WEB)


def test_a_machine_lives_from_its_creation_to_its_removal(cloud: Cloud) -> None:
    made = cloud.ask("POST", "/iaas/machines", {**WEB, "labels": {"team": "blue"}})
    assert made.status == 201
    assert made.headers["location"] == "/iaas/machines/web"
    assert (made.json()["state"], made.json()["settled"], made.json()["node"]) == ("running", True, "n1")
    assert made.json()["labels"] == {"team": "blue"}
    assert cloud.ask("GET", "/iaas/machines/web").json()["state"] == "running"
    assert [one["id"] for one in cloud.ask("GET", "/iaas/machines").json()] == ["web"]
    assert cloud.hosts["n1"].agent.machines.get("web").state == "running"
    for state in ("paused", "running", "stopped"):
        answer = cloud.ask("PUT", "/iaas/machines/web", {"state": state})
        assert (answer.status, answer.json()["state"]) == (200, state)
    gone = cloud.ask("DELETE", "/iaas/machines/web")
    assert (gone.status, gone.body) == (204, b"")
    assert cloud.hosts["n1"].agent.machines.list() == []
    again = cloud.ask("DELETE", "/iaas/machines/web")
    assert (again.status, again.json()["code"]) == (404, "not-found")


def test_a_machine_has_what_the_contract_lists(web: dict[str, Any]) -> None:
    listed = "id name type image mem cpus node ports address labels state wish reason on_node_failure restart"
    assert {*listed.split(), "created_at", "updated_at"} <= web.keys()
    assert web["created_at"].endswith("Z")


def test_each_machine_has_an_operation_that_says_how_far_it_is(cloud: Cloud) -> None:
    made = cloud.ask("POST", "/iaas/machines", WEB, {"Prefer": "respond-async"})
    assert made.status in (201, 202)
    assert made.headers["operation-location"] == f"/iaas/operations/{made.json()['operation']}"
    operation = cloud.finish(made.json()["operation"])
    assert (operation["kind"], operation["target"], operation["state"]) == ("machine-add", "web", "done")
    assert operation["progress"] == 1.0


def test_respond_async_answers_before_the_machine_is_made(empty_cloud: Cloud) -> None:
    empty_cloud.add_node("n1", {"add_delay_s": "3600"})
    made = empty_cloud.ask("POST", "/iaas/machines", WEB, {"Prefer": "respond-async"})
    assert (made.status, made.json()["settled"]) == (202, False)
    assert made.headers["preference-applied"] == "respond-async"
    began = time.monotonic()
    waited = empty_cloud.ask("POST", "/iaas/machines", {**WEB, "id": "b"}, {"Prefer": "wait=1"})
    assert time.monotonic() - began > 0.9
    assert (waited.status, waited.headers["preference-applied"]) == (202, "wait=1")


def test_a_look_at_a_machine_can_wait_until_it_settles(empty_cloud: Cloud) -> None:
    empty_cloud.add_node("n1", {"start_delay_s": "0.5", "remove_delay_s": "1"})
    empty_cloud.ask("POST", "/iaas/machines", WEB, {"Prefer": "respond-async"})
    found = empty_cloud.ask("GET", "/iaas/machines/web", headers={"Prefer": "wait=60"})
    assert found.json()["state"] == "running"
    going = empty_cloud.ask("DELETE", "/iaas/machines/web", headers={"Prefer": "respond-async"})
    assert (going.status, going.json()["wish"]) == (202, "removed")
    assert empty_cloud.ask("GET", "/iaas/machines/web", headers={"Prefer": "wait=60"}).status == 404


def test_a_port_of_another_machine_is_refused_by_name(cloud: Cloud) -> None:
    port = free_port()
    ports = {"node": "n1", "ports": [{"node_port": port, "machine_port": 80}]}
    made = cloud.ask("POST", "/iaas/machines", {**WEB, **ports})
    assert made.json()["ports"] == [{"node_port": port, "machine_port": 80, "protocol": "tcp"}]
    refused = cloud.ask("POST", "/iaas/machines", {**WEB, **ports, "id": "b"})
    assert (refused.status, refused.json()["code"]) == (409, "port-taken")
    assert "web" in refused.json()["holder"]
    assert cloud.ask("GET", "/iaas/machines/b").status == 404


def test_a_port_of_a_process_of_the_host_is_refused_by_name_and_nothing_is_kept(cloud: Cloud) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        ports = {"node": "n1", "ports": [{"node_port": port, "machine_port": 80}]}
        refused = cloud.ask("POST", "/iaas/machines", {**WEB, **ports})
    assert (refused.status, refused.json()["code"]) == (409, "port-taken")
    assert "pid" in refused.json()["holder"]
    assert "n1" in refused.json()["detail"]
    assert cloud.ask("GET", "/iaas/machines").json() == []
    assert cloud.ask("POST", "/iaas/machines", WEB).status == 201


def test_a_machine_that_fails_says_why(empty_cloud: Cloud) -> None:
    empty_cloud.add_node("n1", {"faults": "start:*:driver-failed"})
    failed = empty_cloud.ask("POST", "/iaas/machines", WEB)
    assert (failed.status, failed.json()["state"]) == (201, "failed")
    assert "start fails as ordered" in failed.json()["reason"]


def test_the_same_idempotency_key_makes_one_machine(cloud: Cloud) -> None:
    first = cloud.ask("POST", "/iaas/machines", SPEC, {"Idempotency-Key": "k1"})
    second = cloud.ask("POST", "/iaas/machines", SPEC, {"Idempotency-Key": "k1"})
    assert first.json()["id"] == second.json()["id"]
    assert len(cloud.ask("GET", "/iaas/machines").json()) == 1
    assert cloud.ask("POST", "/iaas/machines", {**SPEC, "mem": 17}, {"Idempotency-Key": "k1"}).status == 409
    long = cloud.ask("POST", "/iaas/machines", SPEC, {"Idempotency-Key": "k" * 256})
    assert (long.status, long.json()["field"]) == (422, "Idempotency-Key")


def test_lists_are_filtered_and_paged(cloud: Cloud) -> None:
    for id in ("a", "b", "c"):
        cloud.client.machines.add({**SPEC, "id": id})
    cloud.client.machines.wish("b", "stopped")

    def ids(query: str) -> list[str]:
        return [machine["id"] for machine in cloud.ask("GET", f"/iaas/machines?{query}").json()]

    assert ids("state=running") == ["a", "c"]
    assert ids("state=running&id=c&node=n1&mem=64") == ["c"]
    assert ids("node=n2") == []
    assert ids("settled=true&full_copy=false&wish=stopped&disk=0") == ["b"]
    assert ids("settled=false") == []
    assert ids("full_copy=true") == []
    page = cloud.ask("GET", "/iaas/machines?limit=2")
    assert [machine["id"] for machine in page.json()] == ["a", "b"]
    assert page.headers["link"] == '</iaas/machines?limit=2&marker=b>; rel="next"'
    assert ids("limit=2&marker=b") == ["c"]


@pytest.mark.parametrize(
    ("change", "field", "code"),
    [
        ({"image": None}, "image", "invalid-field"),
        ({"image": "nothing-like-it", "type": None}, "image", "unknown-image"),
        ({"image": "a\nb"}, "image", "invalid-field"),
        ({"image": "x" * 300}, "image", "invalid-field"),
        ({"type": "../x"}, "type", "invalid-field"),
        ({"id": "../x"}, "id", "invalid-field"),
        ({"id": "x\n"}, "id", "invalid-field"),
        ({"id": "x" * 300}, "id", "invalid-field"),
        ({"name": "Web Server"}, "name", "invalid-field"),
        ({"mem": 0}, "mem", "invalid-field"),
        ({"mem": "256"}, "mem", "invalid-field"),
        ({"mem": True}, "mem", "invalid-field"),
        ({"mem": 10**30}, "mem", "invalid-field"),
        ({"cpus": 0}, "cpus", "invalid-field"),
        ({"disk": -1}, "disk", "invalid-field"),
        ({"node": "../n1"}, "node", "invalid-field"),
        ({"ports": [{"node_port": 8080, "machine_port": 80}]}, "ports", "invalid-field"),
        ({"node": "n1", "ports": [{"node_port": 0, "machine_port": 80}]}, "ports.0.node_port", "invalid-field"),
        ({"node": "n1", "ports": [{"node_port": 80}]}, "ports.0.machine_port", "invalid-field"),
        ({"node": "n1", "ports": [{"node_port": 80, "machine_port": 80}] * 2}, "ports", "invalid-field"),
        ({"labels": {"a": 1}}, "labels.a", "invalid-field"),
        ({"labels": {"a": "\u0000"}}, "labels", "invalid-field"),
        ({"labels": {f"k{n}": "" for n in range(65)}}, "labels", "invalid-field"),
        ({"labels": {"garbi.epoch": "7"}}, "labels", "invalid-field"),
        ({"require": {"a": "\u0000"}}, "require", "invalid-field"),
        ({"apart": "\u0000"}, "apart", "invalid-field"),
        ({"apart": "x" * 300}, "apart", "invalid-field"),
        ({"strategy": "best"}, "strategy", "invalid-field"),
        ({"state": "paused"}, "state", "invalid-field"),
        ({"restart": "sometimes"}, "restart", "invalid-field"),
        ({"on_node_failure": "pray"}, "on_node_failure", "invalid-field"),
        ({"colour": "red"}, "colour", "invalid-field"),
    ],
)
@pytest.mark.parametrize("path", ["/iaas/machines", "/iaas/machines/explain"])
def test_a_wrong_field_is_named_and_nothing_is_made(
    still_cloud: Cloud, path: str, change: dict[str, Any], field: str, code: str
) -> None:
    spec = {key: value for key, value in {**WEB, **change}.items() if not (key == "type" and value is None)}
    refused = still_cloud.ask("POST", path, spec)
    assert (refused.status, refused.json()["code"], refused.json()["field"]) == (422, code, field)
    assert still_cloud.ask("GET", "/iaas/machines").json() == []


@pytest.mark.parametrize("query", ["mem=much", "cpus=1.5", "settled=perhaps", "full_copy=1", "disk=%C2%B2"])
def test_a_filter_takes_what_its_field_can_be(still_cloud: Cloud, query: str) -> None:
    refused = still_cloud.ask("GET", f"/iaas/machines?{query}")
    assert (refused.status, refused.json()["field"]) == (422, query.partition("=")[0])


@pytest.mark.parametrize("change", [{"mem": 2**22}, {"cpus": 4096}, {"require": {"rack": "b"}}, {"node": "nobody"}])
def test_what_fits_nowhere_is_refused_with_a_verdict_for_each_node(still_cloud: Cloud, change: dict[str, Any]) -> None:
    refused = still_cloud.ask("POST", "/iaas/machines", {**WEB, **change})
    assert (refused.status, refused.json()["code"]) == (409, "nothing-fits")
    [verdict] = refused.json()["verdicts"]
    assert (verdict["node"], verdict["fits"]) == ("n1", False)
    assert verdict["reason"]


def test_explain_says_where_and_places_nothing(still_cloud: Cloud) -> None:
    told = still_cloud.client.machines.explain(WEB)
    assert (told["chosen"], told["strategy"]) == ("n1", "spread")
    assert [(verdict["node"], verdict["fits"]) for verdict in told["verdicts"]] == [("n1", True)]
    refused = still_cloud.client.machines.explain({**WEB, "mem": 2**22})
    assert refused["chosen"] is None
    assert refused["verdicts"][0]["reason"] in refused["summary"] or refused["summary"]
    assert still_cloud.ask("GET", "/iaas/machines").json() == []


@pytest.mark.parametrize("state", ["running", "stopped"])
def test_a_wish_that_is_fulfilled_already_is_refused(cloud: Cloud, web: dict[str, Any], state: str) -> None:
    if state == "stopped":
        cloud.client.machines.wish("web", "stopped")
    refused = cloud.ask("PUT", "/iaas/machines/web", {"state": state})
    assert (refused.status, refused.json()["code"]) == (409, "already-in-state")
    taken = cloud.ask("POST", "/iaas/machines", WEB)
    assert (taken.status, taken.json()["code"]) == (409, "already-exists")


@pytest.mark.parametrize("body", [{}, {"state": "removed"}, {"state": 1}, {"state": "running", "x": 1}, [], None, "x"])
def test_a_wish_is_one_of_three_states(still_cloud: Cloud, body: Any) -> None:
    refused = still_cloud.ask("PUT", "/iaas/machines/web", body, raw=b"")
    assert (refused.status, refused.json()["code"]) == (422, "invalid-field")


def test_console_log_and_figures_come_from_the_node(cloud: Cloud, web: dict[str, Any]) -> None:
    log = cloud.ask("GET", "/iaas/machines/web/log")
    assert (log.status, log.headers["content-type"]) == (200, "text/plain; charset=utf-8")
    assert log.body == cloud.hosts["n1"].agent.machines.console_log("web", 2**16)
    assert len(cloud.ask("GET", "/iaas/machines/web/log?limit=3").body) == 3
    assert cloud.ask("GET", "/iaas/machines/web/log?limit=0").json()["field"] == "limit"
    assert cloud.ask("GET", "/iaas/machines/web/figures").json()["memory_bytes"] > 0
    cloud.client.machines.wish("web", "stopped")
    refused = cloud.ask("GET", "/iaas/machines/web/figures")
    assert (refused.status, refused.json()["code"]) == (409, "conflict")


@pytest.mark.parametrize("restart", ["no", "on-failure", "always"])
def test_the_restart_policy_reaches_the_node(cloud: Cloud, restart: str) -> None:
    cloud.client.machines.add({**SPEC, "id": "again", "restart": restart})
    assert cloud.client.machines.get("again")["restart"] == restart
    (there,) = [each for host in cloud.hosts.values() for each in host.agent.machines.list() if each.id == "again"]
    assert there.restart == restart


def test_a_machine_is_started_again_when_it_fails_unless_asked_otherwise(cloud: Cloud) -> None:
    assert cloud.client.machines.add({**SPEC, "id": "again"})["restart"] == "on-failure"
