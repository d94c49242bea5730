"""Threat C: who has no token is told nothing by a service, on no path, by no method, from no address.

Octavia's agent did not ask for the controller's certificate (CVE-2019-17134), Nomad's client answered without a token
(CVE-2023-1782).
"""

from __future__ import annotations

import json
import logging
import re
import socket
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from starlette.routing import Route
from tests.api.conftest import LIMIT_S, Server, StartServer, run_hyper

from garbi.base.errors import Unauthenticated
from garbi.base.token import TOKEN_FILE, new_secret
from garbi.devcloud import DevCloud
from garbi.hyper.rest.app import assemble
from garbi.hyper_api.client import HyperClient
from garbi.iaas.rest.app import assemble as assemble_iaas


def routes(holder: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every method and path that the service has, those that its contract does not name among them."""
    for route in holder.routes:
        included = getattr(route, "original_router", None)
        if included is not None:
            yield from routes(included, prefix + route.include_context.prefix)
            continue
        assert isinstance(route, Route), "a mount or a socket: say here who may use it"
        for method in sorted(route.methods or ()):
            yield method, prefix + re.sub(r"\{\w+(:\w+)?\}", "web", route.path)


APPS = {"hyper": assemble(), "iaas": assemble_iaas()}
UNKNOWN = [("GET", "/"), ("GET", "/nothing"), ("TRACE", "/docs"), ("OPTIONS", "*")]
CENSUS = [(name, *each) for name, app in APPS.items() for each in [*routes(app), *UNKNOWN]]
WRONG = {
    "none": [],
    "empty": [""],
    "no scheme": ["{}"],
    "another scheme": ["Basic {}"],
    "wrong": [f"Bearer {new_secret()}"],
    "cut short": ["Bearer {cut}"],
    "with more": ["Bearer {}x"],
    "in another case": ["Bearer {swapped}"],
    "twice": ["Bearer {}", "Bearer {}"],
    "right one second": [f"Bearer {new_secret()}", "Bearer {}"],
    "long": ["Bearer " + "x" * 30_000],
    "garbage": ["Bearer \x80\xff\x01"],
}


@pytest.fixture(scope="module")
def doors(still_server: Server) -> Iterator[dict[str, tuple[str, str]]]:
    """The address of each service, and its token."""
    with DevCloud(nodes=0) as cloud:
        hyper = (still_server.url, str(still_server.agent.secret))
        yield {"hyper": hyper, "iaas": (cloud.url, str(cloud.controller.secret))}


@pytest.mark.parametrize("service", APPS)
def test_the_census_finds_what_the_contract_leaves_out(service: str) -> None:
    for path in (f"/{service}/health", "/metrics", "/openapi.json", "/docs"):
        assert (service, "GET", path) in CENSUS


@pytest.mark.parametrize(("service", "method", "target"), CENSUS)
def test_cve_2019_17134_no_path_answers_without_the_token(
    doors: dict[str, tuple[str, str]], service: str, method: str, target: str
) -> None:
    url, secret = doors[service]
    for name, values in WRONG.items():
        status, headers, body = ask(url, method, target, [filled(each, secret) for each in values])
        assert status == 401, name
        assert headers["www-authenticate"] == "Bearer"
        assert headers["cache-control"] == "no-store"
        assert method == "HEAD" or json.loads(body)["code"] == "unauthenticated"
        assert secret.encode() not in body


def test_the_token_of_an_agent_is_none_for_the_controller_and_the_other_way_round(
    doors: dict[str, tuple[str, str]],
) -> None:
    for service, other in (("hyper", "iaas"), ("iaas", "hyper")):
        for token, status in ((doors[service][1], 200), (doors[other][1], 401)):
            assert ask(doors[service][0], "GET", f"/{service}/health", [f"Bearer {token}"])[0] == status


def filled(value: str, secret: str) -> str:
    known = {"{}": secret, "{cut}": secret[:-1], "{swapped}": secret.swapcase()}
    return re.sub(r"\{\w*\}", lambda found: known[found.group()], value)


def ask(url: str, method: str, target: str, authorization: list[str]) -> tuple[int, dict[str, str], bytes]:
    """A request with these values of the header Authorization, in this order."""
    connection = HTTPConnection(urlsplit(url).netloc, timeout=LIMIT_S)
    try:
        connection.putrequest(method, target)
        for value in authorization:
            connection.putheader("Authorization", value.encode("latin-1"))
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


@pytest.mark.parametrize("query", ["token={}", "access_token={}", "authorization=Bearer%20{}"])
def test_a_token_in_the_address_is_none_because_addresses_are_written_down(still_server: Server, query: str) -> None:
    target = f"/hyper/machines?{query.format(still_server.agent.secret)}"
    assert still_server.ask("GET", target, known=False).status == 401
    cookie = {"Cookie": f"token={still_server.agent.secret}", "X-Auth-Token": still_server.agent.secret}
    assert still_server.ask("GET", "/hyper/machines", headers=cookie, known=False).status == 401


def test_cve_2023_1782_the_loopback_address_is_no_reason_to_be_believed(still_server: Server) -> None:
    for headers in ({"Host": "localhost"}, {"X-Forwarded-For": "127.0.0.1"}, {"Forwarded": "for=127.0.0.1;by=root"}):
        reply = still_server.ask("POST", "/hyper/machines", {"image": "any", "type": "fake"}, headers, known=False)
        assert (reply.status, reply.json()["code"]) == (401, "unauthenticated")
    assert still_server.client.machines.list() == []


def test_the_token_of_another_node_is_none_here(start_server: StartServer) -> None:
    here, there = start_server(), start_server()
    with pytest.raises(Unauthenticated):
        HyperClient(here.url, token=there.agent.secret).health()
    assert here.client.health()["status"] == "ok"


def test_nothing_of_a_strangers_body_is_read(still_server: Server) -> None:
    address = urlsplit(still_server.url)
    for request in ("POST /hyper/machines", "PUT /hyper/images/big?type=raw"):
        with socket.create_connection((address.hostname or "", address.port or 0), timeout=LIMIT_S) as connection:
            head = f"{request} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            connection.sendall(f"{head}Content-Length: 999999\r\nExpect: 100-continue\r\n\r\n".encode())
            assert connection.recv(100).startswith(b"HTTP/1.1 401 ")  # and not 100: go on


def test_strangers_take_nobodys_place(server: Server) -> None:
    address = urlsplit(server.url)
    opened = [socket.create_connection((address.hostname or "", address.port or 0), LIMIT_S) for _ in range(300)]
    for number, each in enumerate(opened):
        target = ("/hyper/events", "/hyper/machines/web")[number % 2]
        each.sendall(f"GET {target} HTTP/1.1\r\nHost: localhost\r\nPrefer: wait=600\r\n\r\n".encode())
    for each in opened:
        assert each.recv(100).startswith(b"HTTP/1.1 401 ")
        each.close()
    assert server.client.health()["status"] == "ok"


def test_no_token_is_written_down(data_dir: Path, start_server: StartServer, caplog: pytest.LogCaptureFixture) -> None:
    shown = new_secret()
    with caplog.at_level(logging.DEBUG):
        server = start_server()
        server.client.machines.add({"image": "any", "type": "fake", "id": "web"})
        with pytest.raises(Unauthenticated):
            HyperClient(server.url, token=shown).health()
        metrics = server.ask("GET", "/metrics").body.decode()
    for token in (server.agent.secret, shown):
        assert token not in f"{caplog.text} {metrics} {server.agent._parts!r} {vars(server.agent)!r}"
        holders = [path.name for path in data_dir.rglob("*") if path.is_file() and token.encode() in path.read_bytes()]
        assert holders == ([TOKEN_FILE] if token == server.agent.secret else [])


def test_a_command_that_is_refused_says_where_the_token_is(server: Server, tmp_path: Path) -> None:
    environment = server.environment
    environment.pop("GARBI_HYPER_TOKEN_FILE")
    environment |= {"HOME": str(tmp_path), "GARBI_HYPER_DATA_DIR": str(tmp_path)}
    refused = run_hyper("list", environment=environment)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "--token-file" in refused.stderr
    assert "`hyper serve` says where" in refused.stderr
    token_file = server.agent.settings.data_dir / TOKEN_FILE
    assert run_hyper("--token-file", str(token_file), "list", environment=environment).returncode == 0
    shell = run_hyper("--token-file", str(token_file), stdin="list -q\n", environment=environment)
    assert (shell.returncode, shell.stderr) == (0, "")
    environment["GARBI_HYPER_DATA_DIR"] = str(token_file.parent)
    assert run_hyper("list", environment=environment).returncode == 0


def test_a_token_file_that_others_can_open_is_no_start(data_dir: Path, start_server: StartServer) -> None:
    server = start_server()
    (server.agent.settings.data_dir / TOKEN_FILE).chmod(0o644)
    server.agent.close()
    refused = run_hyper(
        "serve", "--port", "0", "--data-dir", str(server.agent.settings.data_dir), environment=server.environment
    )
    assert refused.returncode == 1
    assert "chmod 600" in refused.stderr
