"""What holds for every request: who may ask, how much, how errors look, how waiting is asked for."""

from __future__ import annotations

import socket
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.api.conftest import Server, StartServer

from garbi.hyper.rest.app import assemble
from garbi.web.places import MAX_WAITERS
from garbi.web.preferences import read_patience

PATHS = sorted(assemble().openapi()["paths"].items())
OPERATIONS = [(path, method) for path, item in PATHS for method in item]


def plain_path(path: str) -> str:
    return path.replace("{id}", "web").replace("{name}", "tiny")


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "192.0.2.1:80", "[2001:db8::1]", "a b"])
def test_a_request_for_another_host_is_refused(still_server: Server, host: str) -> None:
    refused = still_server.ask("GET", "/hyper/health", headers={"Host": host})
    assert (refused.status, refused.json()["code"]) == (403, "refused-request")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1", "127.9.9.9:99", "[::1]:8081"])
def test_a_request_for_this_host_is_answered(still_server: Server, host: str) -> None:
    assert still_server.ask("GET", "/hyper/health", headers={"Host": host}).status == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://127.0.0.1", "http://127.0.0.1:1"])
def test_a_request_from_a_page_of_another_origin_is_refused(still_server: Server, origin: str) -> None:
    refused = still_server.ask("POST", "/hyper/machines", {"image": "any"}, {"Origin": origin})
    assert (refused.status, refused.json()["field"]) == (403, "Origin")


def test_a_request_from_the_servers_own_page_is_answered(still_server: Server) -> None:
    assert still_server.ask("GET", "/hyper/health", headers={"Origin": still_server.url}).status == 200


@pytest.mark.parametrize("media", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_a_body_that_does_not_say_that_it_is_json_is_refused(still_server: Server, media: str) -> None:
    refused = still_server.ask("POST", "/hyper/machines", raw=b'{"image": "any"}', headers={"Content-Type": media})
    assert (refused.status, refused.json()["code"]) == (415, "unsupported-media")


@pytest.mark.parametrize(
    "body", [b"{", b"\xff\xfe", b"[" * 100_000, b'{"image": ' + b"9" * 5000 + b"}", b'{"image": "\\ud800"}']
)
def test_a_body_that_is_no_json_is_refused(still_server: Server, body: bytes) -> None:
    refused = still_server.ask("POST", "/hyper/machines", raw=body, headers={"Content-Type": "application/json"})
    assert refused.status in (400, 422)
    assert refused.json()["code"] in ("malformed-request", "invalid-field")


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_is_too_large_is_refused(still_server: Server, chunked: bool) -> None:
    size = {"Transfer-Encoding": "chunked"} if chunked else {"Content-Length": str(2**20 + 1)}
    body = b'{"image": "' + b"x" * (2**20 + 1) + b'"}'
    if chunked:
        body = f"{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n"
    headers = {"Content-Type": "application/json", **size}
    refused = still_server.ask(
        "POST", "/hyper/machines", raw=body[: 2**20 + 1] if not chunked else body, headers=headers
    )
    assert (refused.status, refused.json()["code"]) == (413, "content-too-large")


@pytest.mark.parametrize(
    "path", ["/", "/hyper", "/hyper/machines/", "/hyper/machines/web/x", "/docs/x", "/static/..%2f"]
)
def test_a_path_that_is_none_is_a_problem_document(still_server: Server, path: str) -> None:
    answer = still_server.ask("GET", path)
    assert (answer.status, answer.json()["code"]) == (404, "not-found")
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_method_that_a_path_does_not_take_is_a_problem_document(still_server: Server) -> None:
    answer = still_server.ask("PATCH", "/hyper/machines/web")
    assert (answer.status, answer.json()["code"]) == (405, "method-not-allowed")
    assert "GET" in answer.headers["allow"] or "PUT" in answer.headers["allow"]


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_every_operation_refuses_a_query_field_that_it_does_not_know(
    still_server: Server, path: str, method: str
) -> None:
    body = {"PUT": {"state": "stopped"}, "POST": {"image": "any", "type": "fake"}}.get(method.upper())
    extra = "&type=raw" if path.startswith("/hyper/images/") and method == "put" else ""
    refused = still_server.ask(method.upper(), f"{plain_path(path)}?nonsense=1{extra}", body)
    assert refused.status == 400
    if method != "head":  # whose answers have no body
        assert (refused.json()["code"], refused.json()["field"]) == ("unknown-filter", "nonsense")


def test_an_unexpected_failure_tells_an_id_and_nothing_else(server: Server) -> None:
    with closing(sqlite3.connect(server.agent.settings.data_dir / "hyper.db")) as database:
        database.execute("ALTER TABLE machines RENAME TO nowhere")  # what nobody foresees
    broken = server.ask("GET", "/hyper/machines")
    assert (broken.status, broken.json()["code"]) == (500, "internal-error")
    assert len(broken.json()["correlation_id"]) == 32
    assert b"sqlite" not in broken.body.lower()
    assert b"Traceback" not in broken.body


def test_answers_are_not_kept_and_not_guessed_at(still_server: Server) -> None:
    for path in ("/hyper/machines", "/nothing", "/docs", "/metrics"):
        headers = still_server.ask("GET", path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"


def test_a_request_that_is_cut_off_does_no_harm(server: Server) -> None:
    host, port = urlsplit(server.url).hostname, urlsplit(server.url).port
    with socket.create_connection((host or "", port or 0)) as connection:
        head = f"POST /hyper/machines HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {server.agent.secret}\r\n"
        connection.sendall(f"{head}Content-Length: 50\r\n\r\n{{".encode())
    assert server.ask("GET", "/hyper/health").json()["status"] == "ok"
    assert server.ask("GET", "/hyper/machines").json() == []


def test_who_only_looks_is_answered_while_more_wait_than_may(start_server: StartServer) -> None:
    server = start_server({"add_delay_s": "3"})
    server.ask("POST", "/hyper/machines", {"image": "any", "type": "fake", "id": "web"}, {"Prefer": "respond-async"})
    with ThreadPoolExecutor(MAX_WAITERS + 30) as threads:
        waits = [
            threads.submit(server.ask, "GET", "/hyper/machines/web", headers={"Prefer": "wait=300"})
            for _ in range(MAX_WAITERS + 30)
        ]
        while not any(wait.done() for wait in waits):  # one that found no place to wait
            assert server.ask("GET", "/hyper/health").status == 200
        answers = [wait.result() for wait in waits]
    assert {answer.status for answer in answers} == {200}
    waited = [answer for answer in answers if "preference-applied" in answer.headers]
    assert all(answer.json()["state"] == "running" for answer in waited)


@pytest.mark.parametrize(
    ("headers", "seconds", "applied"),
    [
        ([], 30.0, ""),
        (["respond-async"], 0.0, "respond-async"),
        (["wait=5"], 5.0, "wait=5"),
        (['wait="7"; x=y'], 7.0, "wait=7"),
        (["respond-async, wait=10"], 10.0, "wait=10"),
        (["handling=lenient", "WAIT = 3"], 3.0, "wait=3"),
        (["wait=100000"], 600.0, "wait=600"),
        (["wait=soon"], 30.0, ""),
        (["wait=-1"], 30.0, ""),
        (["wait=²"], 30.0, ""),
        (["wait=1, wait=2"], 1.0, "wait=1"),
    ],
)
def test_prefer_is_read_as_rfc_7240_says(headers: list[str], seconds: float, applied: str) -> None:
    patience = read_patience(headers)
    assert (patience.wait_s, patience.applied) == (seconds, applied)


def test_the_page_for_people_loads_nothing_from_elsewhere(still_server: Server) -> None:
    page = still_server.ask("GET", "/docs")
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    text = page.body.decode()
    assert "<script" not in text
    assert "http://" not in text.replace("http://127.0.0.1", "")
    assert "https://" not in text
    for path, item in PATHS:
        for method in item:
            assert f"<b>{method.upper()}</b> <code>{path}</code>" in text


def test_openapi_is_served(still_server: Server) -> None:
    document: dict[str, Any] = still_server.ask("GET", "/openapi.json").json()
    assert document == assemble().openapi()
