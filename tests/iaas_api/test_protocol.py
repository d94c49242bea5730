"""What holds for every request to a controller: who may ask, how much, how errors look, what the page says."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest
from tests.iaas_api.conftest import SPEC, Cloud

from garbi.iaas.rest.app import assemble
from garbi.web.places import MAX_WAITERS

PATHS = sorted(assemble().openapi()["paths"].items())
OPERATIONS = [(path, method) for path, item in PATHS for method in item]
BODIES = {
    "/iaas/nodes": {"name": "n9", "address": "127.0.0.1:1", "provision": False},
    "/iaas/nodes/{name}": {"state": "draining"},
    "/iaas/images": {"name": "x", "type": "raw"},
    "/iaas/machines": SPEC,
    "/iaas/machines/explain": SPEC,
    "/iaas/machines/{id}": {"state": "stopped"},
}


def plain_path(path: str) -> str:
    return path.replace("{id}", "web").replace("{name}", "tiny")


@pytest.mark.parametrize(("path", "method"), [*OPERATIONS, ("/nothing", "get"), ("/docs", "get")])
@pytest.mark.parametrize("shown", [None, "Bearer", "Bearer wrong", "Basic Z2FyYmk6eA==", "Bearer \u00e9"])
def test_nobody_is_answered_without_the_token(still_cloud: Cloud, path: str, method: str, shown: str | None) -> None:
    headers = {} if shown is None else {"Authorization": shown}
    body = BODIES.get(path) if method in ("post", "put") else None
    refused = still_cloud.ask(method.upper(), plain_path(path), body, headers, known=False)
    assert refused.status == 401
    assert refused.headers["www-authenticate"] == "Bearer"
    assert method == "head" or refused.json()["code"] == "unauthenticated"


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "192.0.2.1:80", "a b"])
def test_a_request_for_another_host_is_refused(still_cloud: Cloud, host: str) -> None:
    refused = still_cloud.ask("GET", "/iaas/health", headers={"Host": host})
    assert (refused.status, refused.json()["code"]) == (403, "refused-request")


@pytest.mark.parametrize(
    "headers",
    [{"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}],
)
def test_a_request_from_a_page_of_another_origin_is_refused(still_cloud: Cloud, headers: dict[str, str]) -> None:
    assert still_cloud.ask("POST", "/iaas/machines", SPEC, headers).status == 403


@pytest.mark.parametrize("media", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_a_body_that_does_not_say_that_it_is_json_is_refused(still_cloud: Cloud, media: str) -> None:
    refused = still_cloud.ask("POST", "/iaas/machines", raw=b'{"image": "any"}', headers={"Content-Type": media})
    assert (refused.status, refused.json()["code"]) == (415, "unsupported-media")


@pytest.mark.parametrize("path", ["/iaas/nodes", "/iaas/images", "/iaas/machines", "/iaas/machines/explain"])
@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"name": "\\ud800"}', b"null", b"[]"])
def test_a_body_that_is_no_object_is_refused(still_cloud: Cloud, path: str, body: bytes) -> None:
    refused = still_cloud.ask("POST", path, raw=body, headers={"Content-Type": "application/json"})
    assert refused.status in (400, 422)
    assert refused.json()["code"] in ("malformed-request", "invalid-field")


def test_a_body_that_is_too_large_is_refused(still_cloud: Cloud) -> None:
    body = b'{"image": "' + b"x" * 2**20 + b'"}'
    refused = still_cloud.ask("POST", "/iaas/machines", raw=body, headers={"Content-Type": "application/json"})
    assert (refused.status, refused.json()["code"]) == (413, "content-too-large")


@pytest.mark.parametrize("path", ["/", "/iaas", "/iaas/machines/", "/iaas/machines/web/x", "/hyper/machines"])
def test_a_path_that_is_none_is_a_problem_document(still_cloud: Cloud, path: str) -> None:
    answer = still_cloud.ask("GET", path)
    assert (answer.status, answer.json()["code"]) == (404, "not-found")
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_every_operation_refuses_a_query_field_that_it_does_not_know(
    still_cloud: Cloud, path: str, method: str
) -> None:
    headers = {"Upload-Offset": "0", "Upload-Complete": "?1"} if method == "patch" else {}
    body = BODIES.get(path) if method in ("post", "put") else None
    refused = still_cloud.ask(method.upper(), f"{plain_path(path)}?nonsense=1", body, headers)
    assert refused.status == 400
    assert method == "head" or (refused.json()["code"], refused.json()["field"]) == ("unknown-filter", "nonsense")


@pytest.mark.parametrize("list_path", ["/iaas/nodes", "/iaas/images", "/iaas/machines", "/iaas/operations"])
@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("state=running&state=stopped", 400, "unknown-filter"),
        ("limit=0", 422, "invalid-field"),
        ("limit=many", 422, "invalid-field"),
    ],
)
def test_a_list_refuses_what_it_does_not_know(
    still_cloud: Cloud, list_path: str, query: str, status: int, code: str
) -> None:
    refused = still_cloud.ask("GET", f"{list_path}?{query}")
    assert (refused.status, refused.json()["code"]) == (status, code)


@pytest.mark.parametrize("list_path", ["/iaas/machines", "/iaas/operations"])
@pytest.mark.parametrize("marker", ["nothing", "%00"])
def test_a_list_by_age_goes_on_after_something_that_is_in_it(still_cloud: Cloud, list_path: str, marker: str) -> None:
    refused = still_cloud.ask("GET", f"{list_path}?marker={marker}")
    assert (refused.status, refused.json()["field"]) == (422, "marker")


THINGS = [
    *[("GET", "/iaas/nodes/{}"), ("PUT", "/iaas/nodes/{}"), ("DELETE", "/iaas/nodes/{}")],
    *[("GET", "/iaas/images/{}"), ("DELETE", "/iaas/images/{}"), ("PUT", "/iaas/images/{}/file")],
    *[("GET", "/iaas/machines/{}"), ("PUT", "/iaas/machines/{}"), ("DELETE", "/iaas/machines/{}")],
    *[("GET", "/iaas/machines/{}/log"), ("GET", "/iaas/machines/{}/figures"), ("GET", "/iaas/operations/{}")],
]


@pytest.mark.parametrize(("method", "path"), THINGS)
@pytest.mark.parametrize("id", ["nobody", "%2e%2e", "a%00b", "%ff", "x" * 300])
def test_what_is_not_here_is_not_found(still_cloud: Cloud, method: str, path: str, id: str) -> None:
    bodies = {"/iaas/nodes/{}": {"state": "ready"}, "/iaas/machines/{}": {"state": "running"}}
    body = bodies.get(path) if method == "PUT" else None
    answer = still_cloud.ask(method, path.format(id), body, raw=b"x" if path.endswith("file") else None)
    assert (answer.status, answer.json()["code"]) == (404, "not-found")
    assert 0 < len(answer.json()["detail"]) < 500


def test_answers_are_not_kept_and_not_guessed_at(still_cloud: Cloud) -> None:
    for path in ("/iaas/machines", "/nothing", "/docs", "/metrics"):
        headers = still_cloud.ask("GET", path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"


def test_a_request_that_is_cut_off_does_no_harm(still_cloud: Cloud) -> None:
    address = urlsplit(still_cloud.url)
    with socket.create_connection((address.hostname or "", address.port or 0)) as connection:
        head = (
            f"POST /iaas/machines HTTP/1.1\r\nHost: localhost\r\nAuthorization: {still_cloud.identity['Authorization']}"
        )
        connection.sendall(f"{head}\r\nContent-Length: 50\r\n\r\n{{".encode())
    assert still_cloud.ask("GET", "/iaas/health").json()["status"] == "ok"
    assert still_cloud.ask("GET", "/iaas/machines").json() == []


def test_who_only_looks_is_answered_while_more_wait_than_may(empty_cloud: Cloud) -> None:
    empty_cloud.add_node("n1", {"add_delay_s": "3"})
    empty_cloud.ask("POST", "/iaas/machines", {**SPEC, "id": "web"}, {"Prefer": "respond-async"})
    with ThreadPoolExecutor(MAX_WAITERS + 30) as threads:
        waits = [
            threads.submit(empty_cloud.ask, "GET", "/iaas/machines/web", headers={"Prefer": "wait=300"})
            for _ in range(MAX_WAITERS + 30)
        ]
        while not any(wait.done() for wait in waits):  # one that found no place to wait
            assert empty_cloud.ask("GET", "/iaas/health").status == 200
        answers = [wait.result() for wait in waits]
    assert {answer.status for answer in answers} == {200}
    waited = [answer for answer in answers if "preference-applied" in answer.headers]
    assert all(answer.json()["state"] == "running" for answer in waited)


def test_the_page_for_people_loads_nothing_from_elsewhere(still_cloud: Cloud) -> None:
    page = still_cloud.ask("GET", "/docs")
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    text = page.body.decode()
    assert "<script" not in text
    assert "https://" not in text
    for path, item in PATHS:
        for method in item:
            assert f"<b>{method.upper()}</b> <code>{path}</code>" in text


def test_openapi_is_served(still_cloud: Cloud) -> None:
    assert still_cloud.ask("GET", "/openapi.json").json() == assemble().openapi()
