"""/hyper/machines over HTTP: every verb, what waits, what is refused and how."""

from __future__ import annotations

import time
from typing import Any

import pytest
from tests.api.conftest import Server, StartServer
from tests.conformance.bench import eventually
from tests.free_ports import free_port

SPEC = {"image": "any", "type": "fake", "id": "web"}
LIMIT_S = 60.0


def test_a_machine_lives_from_its_creation_to_its_removal(server: Server) -> None:
    made = server.ask("POST", "/hyper/machines", {**SPEC, "labels": {"team": "blue"}, "mem": 64})
    assert made.status == 201
    assert made.headers["location"] == "/hyper/machines/web"
    assert made.json()["state"] == "running"
    assert made.json()["settled"] is True
    assert server.ask("GET", "/hyper/machines/web").json() == made.json()
    assert server.ask("GET", "/hyper/machines").json() == [made.json()]
    assert server.ask("PUT", "/hyper/machines/web", {"state": "paused"}).json()["state"] == "paused"
    assert server.ask("PUT", "/hyper/machines/web", {"state": "running"}).json()["state"] == "running"
    stopped = server.ask("PUT", "/hyper/machines/web", {"state": "stopped"})
    assert (stopped.status, stopped.json()["state"]) == (200, "stopped")
    gone = server.ask("DELETE", "/hyper/machines/web")
    assert (gone.status, gone.body) == (204, b"")
    again = server.ask("DELETE", "/hyper/machines/web")
    assert (again.status, again.json()["code"]) == (404, "not-found")


def test_a_machine_has_what_the_contract_lists(server: Server, web: dict[str, Any]) -> None:
    listed = "id name type image mem cpus node ports address labels state wish reason on_node_failure restart"
    assert {*listed.split(), "created_at", "updated_at"} <= web.keys()
    assert web["created_at"].endswith("Z")


def test_a_machine_is_started_again_by_its_policy_and_says_how_often(server: Server, web: dict[str, Any]) -> None:
    assert (web["restart"], web["restarts"], web["held"]) == ("on-failure", 0, False)
    made = server.ask("POST", "/hyper/machines", {**SPEC, "id": "db", "restart": "no"})
    assert made.json()["restart"] == "no"
    server.world.kill("web", "exited with code 3")
    server.world.kill("db", "exited with code 3")
    eventually("web runs again", lambda: shown(server, "web") == ("running", "", 1), LIMIT_S)
    eventually("db has failed", lambda: shown(server, "db") == ("failed", "exited with code 3", 0), LIMIT_S)


def shown(server: Server, machine_id: str) -> tuple[str, str, int]:
    machine = server.ask("GET", f"/hyper/machines/{machine_id}").json()
    return machine["state"], machine["reason"], machine["restarts"]


def test_ports_travel_as_the_contract_says(server: Server) -> None:
    port = free_port()
    with_port = server.ask("POST", "/hyper/machines", {**SPEC, "ports": [{"node_port": port, "machine_port": 80}]})
    assert with_port.json()["ports"] == [{"node_port": port, "machine_port": 80, "protocol": "tcp"}]
    taken = server.ask(
        "POST", "/hyper/machines", {**SPEC, "id": "b", "ports": [{"node_port": port, "machine_port": 81}]}
    )
    assert (taken.status, taken.json()["code"]) == (409, "port-taken")
    assert "web" in taken.json()["holder"]


def test_a_machine_may_be_made_without_being_started(server: Server) -> None:
    made = server.ask("POST", "/hyper/machines", {**SPEC, "state": "stopped"})
    assert (made.json()["state"], made.json()["wish"]) == ("stopped", "stopped")


def test_respond_async_answers_before_the_machine_is_made(start_server: StartServer) -> None:
    server = start_server({"add_delay_s": "3600"})
    made = server.ask("POST", "/hyper/machines", SPEC, {"Prefer": "respond-async"})
    assert made.status == 201
    assert made.headers["preference-applied"] == "respond-async"
    assert made.json()["settled"] is False


def test_wait_ends_a_request_after_its_seconds(start_server: StartServer) -> None:
    server = start_server({"add_delay_s": "3600"})
    began = time.monotonic()
    made = server.ask("POST", "/hyper/machines", SPEC, {"Prefer": "wait=1"})
    assert time.monotonic() - began > 0.9
    assert made.headers["preference-applied"] == "wait=1"
    assert (made.status, made.json()["settled"]) == (201, False)


def test_a_look_at_a_machine_can_wait_until_it_settles(start_server: StartServer) -> None:
    server = start_server({"start_delay_s": "0.5"})
    server.ask("POST", "/hyper/machines", SPEC, {"Prefer": "respond-async"})
    assert server.ask("GET", "/hyper/machines/web", headers={"Prefer": "wait=30"}).json()["state"] == "running"


def test_a_removal_that_takes_longer_answers_with_the_machine(start_server: StartServer) -> None:
    server = start_server({"remove_delay_s": "1.5"})
    server.ask("POST", "/hyper/machines", SPEC)
    going = server.ask("DELETE", "/hyper/machines/web", headers={"Prefer": "respond-async"})
    assert (going.status, going.json()["wish"]) == (202, "removed")
    assert server.ask("GET", "/hyper/machines/web", headers={"Prefer": "wait=30"}).status == 404


def test_the_same_idempotency_key_makes_one_machine(server: Server) -> None:
    spec = {"image": "any", "type": "fake"}
    first = server.ask("POST", "/hyper/machines", spec, {"Idempotency-Key": "k1"})
    second = server.ask("POST", "/hyper/machines", spec, {"Idempotency-Key": "k1"})
    assert first.json()["id"] == second.json()["id"]
    assert len(server.ask("GET", "/hyper/machines").json()) == 1
    other = server.ask("POST", "/hyper/machines", {**spec, "mem": 17}, {"Idempotency-Key": "k1"})
    assert other.status == 409


def test_an_idempotency_key_is_printable_and_short(still_server: Server) -> None:
    refused = still_server.ask("POST", "/hyper/machines", SPEC, {"Idempotency-Key": "k" * 256})
    assert (refused.status, refused.json()["field"]) == (422, "Idempotency-Key")


def test_lists_are_filtered_and_paged(server: Server) -> None:
    for id in ("a", "b", "c"):
        server.client.machines.add({"image": "any", "type": "fake", "id": id})
    server.client.machines.wish("b", "stopped")

    def ids(query: str) -> list[str]:
        return [machine["id"] for machine in server.ask("GET", f"/hyper/machines?{query}").json()]

    assert ids("state=running") == ["a", "c"]
    assert ids("state=running&id=c") == ["c"]
    page = server.ask("GET", "/hyper/machines?limit=2")
    assert [machine["id"] for machine in page.json()] == ["a", "b"]
    assert page.headers["link"] == '</hyper/machines?limit=2&marker=b>; rel="next"'
    assert ids("limit=2&marker=b") == ["c"]


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("colour=red", 400, "unknown-filter"),
        ("state=running&state=stopped", 400, "unknown-filter"),
        ("limit=0", 422, "invalid-field"),
        ("limit=many", 422, "invalid-field"),
        ("limit=%C2%B2", 422, "invalid-field"),
        ("marker=nothing", 422, "invalid-field"),
    ],
)
def test_a_list_refuses_what_it_does_not_know(still_server: Server, query: str, status: int, code: str) -> None:
    refused = still_server.ask("GET", f"/hyper/machines?{query}")
    assert (refused.status, refused.json()["code"]) == (status, code)


@pytest.mark.parametrize(
    ("change", "field", "code"),
    [
        ({"image": None}, "image", "invalid-field"),
        ({"image": "nothing-like-it", "type": None}, "image", "unknown-image"),
        ({"image": "../../etc/passwd", "type": None}, "image", "invalid-field"),
        ({"image": "a\nb"}, "image", "invalid-field"),
        ({"image": "x" * 300}, "image", "invalid-field"),
        ({"type": "abacus"}, "type", "unknown-type"),
        ({"id": "../x"}, "id", "invalid-field"),
        ({"id": "x\n"}, "id", "invalid-field"),
        ({"id": "x'y"}, "id", "invalid-field"),
        ({"id": "x" * 300}, "id", "invalid-field"),
        ({"id": ""}, "id", "invalid-field"),
        ({"name": "Web Server"}, "name", "invalid-field"),
        ({"mem": 0}, "mem", "invalid-field"),
        ({"mem": -1}, "mem", "invalid-field"),
        ({"mem": "256"}, "mem", "invalid-field"),
        ({"mem": True}, "mem", "invalid-field"),
        ({"mem": 1.5}, "mem", "invalid-field"),
        ({"mem": 10**30}, "mem", "invalid-field"),
        ({"cpus": 0}, "cpus", "invalid-field"),
        ({"ports": [{"node_port": 0, "machine_port": 80}]}, "ports.0.node_port", "invalid-field"),
        ({"ports": [{"node_port": 80, "machine_port": 65536}]}, "ports.0.machine_port", "invalid-field"),
        ({"ports": [{"node_port": 80}]}, "ports.0.machine_port", "invalid-field"),
        ({"ports": [{"node_port": 80, "machine_port": 80, "protocol": "sctp"}]}, "ports.0.protocol", "invalid-field"),
        ({"ports": [{"node_port": 80, "machine_port": 80}] * 2}, "ports", "invalid-field"),
        ({"ports": "80:80"}, "ports", "invalid-field"),
        ({"labels": {"a": 1}}, "labels.a", "invalid-field"),
        ({"labels": {"a": "\u0000"}}, "labels", "invalid-field"),
        ({"labels": {f"k{n}": "" for n in range(65)}}, "labels", "invalid-field"),
        ({"state": "paused"}, "state", "invalid-field"),
        ({"restart": "sometimes"}, "restart", "invalid-field"),
        ({"on_node_failure": "pray"}, "on_node_failure", "invalid-field"),
        ({"colour": "red"}, "colour", "invalid-field"),
    ],
)
def test_a_wrong_field_is_named_and_nothing_is_made(
    still_server: Server, change: dict[str, Any], field: str, code: str
) -> None:
    spec = {key: value for key, value in {**SPEC, **change}.items() if not (key == "type" and value is None)}
    refused = still_server.ask("POST", "/hyper/machines", spec)
    assert refused.status == 422
    assert (refused.json()["code"], refused.json()["field"]) == (code, field)
    assert refused.headers["content-type"] == "application/problem+json"
    assert still_server.ask("GET", "/hyper/machines").json() == []


def test_memory_beyond_the_host_is_a_conflict(still_server: Server) -> None:
    refused = still_server.ask("POST", "/hyper/machines", {**SPEC, "mem": 2**22})
    assert (refused.status, refused.json()["code"]) == (409, "capacity-exceeded")


def test_several_wrong_fields_are_all_named(still_server: Server) -> None:
    refused = still_server.ask("POST", "/hyper/machines", {"mem": "much", "cpus": 0})
    assert [each["field"] for each in refused.json()["errors"]] == ["image", "mem", "cpus"]


def test_an_id_that_is_taken_is_refused(server: Server, web: dict[str, Any]) -> None:
    refused = server.ask("POST", "/hyper/machines", SPEC)
    assert (refused.status, refused.json()["code"]) == (409, "already-exists")


@pytest.mark.parametrize("state", ["running", "stopped"])
def test_a_wish_that_is_fulfilled_already_is_refused(server: Server, web: dict[str, Any], state: str) -> None:
    if state == "stopped":
        server.client.machines.wish("web", "stopped")
    refused = server.ask("PUT", "/hyper/machines/web", {"state": state})
    assert (refused.status, refused.json()["code"]) == (409, "already-in-state")


@pytest.mark.parametrize("body", [{}, {"state": "removed"}, {"state": 1}, {"state": "running", "x": 1}, [], None, "x"])
def test_a_wish_is_one_of_three_states(server: Server, web: dict[str, Any], body: Any) -> None:
    refused = server.ask("PUT", "/hyper/machines/web", body, raw=b"")
    assert (refused.status, refused.json()["code"]) == (422, "invalid-field")


def test_a_machine_that_fails_says_why(start_server: StartServer) -> None:
    server = start_server({"faults": "start:*:driver-failed"})
    failed = server.ask("POST", "/hyper/machines", SPEC)
    assert (failed.status, failed.json()["state"]) == (201, "failed")
    assert "start fails as ordered" in failed.json()["reason"]


def test_the_console_log_is_plain_text(server: Server, web: dict[str, Any]) -> None:
    log = server.ask("GET", "/hyper/machines/web/log")
    assert log.status == 200
    assert log.headers["content-type"] == "text/plain; charset=utf-8"
    assert log.headers["x-content-type-options"] == "nosniff"
    assert len(server.ask("GET", "/hyper/machines/web/log?limit=3").body) == 3
    refused = server.ask("GET", "/hyper/machines/web/log?limit=0")
    assert (refused.status, refused.json()["field"]) == (422, "limit")


def test_figures_are_of_running_machines(server: Server, web: dict[str, Any]) -> None:
    figures = server.ask("GET", "/hyper/machines/web/figures").json()
    assert figures["id"] == "web"
    assert figures["memory_bytes"] > 0
    server.client.machines.wish("web", "stopped")
    assert server.ask("GET", "/hyper/machines/web/figures").status == 409


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", ""), ("PUT", ""), ("DELETE", ""), ("GET", "/log"), ("GET", "/figures")],
)
@pytest.mark.parametrize("id", ["nobody", "%2e%2e", "a%00b", "%ff", "x" * 300])
def test_a_machine_that_is_not_here_is_not_found(still_server: Server, method: str, path: str, id: str) -> None:
    body = {"state": "running"} if method == "PUT" else None
    answer = still_server.ask(method, f"/hyper/machines/{id}{path}", body)
    assert (answer.status, answer.json()["code"]) == (404, "not-found")
