"""Threats B: requests that are made to take all memory, threads, files or time of the agent; others must still be answered."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests.api.conftest import LIMIT_S, Server, StartServer
from tests.free_ports import free_port
from tests.host.agent.host_agent import eventually
from tests.security.conftest import program

from garbi.hyper_api.client import HyperClient
from garbi.web.gate import MAX_BODY
from garbi.web.places import MAX_STREAMS, MAX_UPLOADS, MAX_WAITERS

SOON_S = 3.0
"""Of the processor, which the server of these tests shares with them: a host that is busy otherwise does not count."""


def connect(url: str) -> socket.socket:
    parts = urlsplit(url)
    return socket.create_connection((parts.hostname or "", parts.port or 0), timeout=LIMIT_S)


def assert_answers(client: HyperClient) -> None:
    """Whoever asks how the agent is, is told, while nothing else ends."""
    assert client.health()["status"] == "ok"


@contextmanager
def many(server: Server, number: int, beginning: str) -> Iterator[list[socket.socket]]:
    """Requests that begin and never end, of somebody who is known."""
    head = f"HTTP/1.1\r\nHost: localhost\r\nAuthorization: {server.identity['Authorization']}\r\n"
    with ExitStack() as stack:
        opened = [stack.enter_context(connect(server.url)) for _ in range(number)]
        for each_number, each in enumerate(opened):
            each.sendall(beginning.format(number=each_number, head=head).encode())
        yield opened


def numbered(text: str, number: int) -> str:
    return ",".join(text.format(each) for each in range(number))


BODIES = {
    "deep list": "[" * (MAX_BODY - 1),
    "deep object": '{"image":' * 100_000,
    "deep value": '{"image":' + "[" * 900 + "]" * 900 + "}",
    "many fields": '{"image":"a",' + numbered('"{}":1', 70_000) + "}",
    "many labels": '{"image":"a","labels":{' + numbered('"{}":""', 60_000) + "}}",
    "many wrong labels": '{"image":"a","labels":{' + numbered('"{}":1', 70_000) + "}}",
    "many ports": '{"image":"a","ports":[' + ",".join(["{}"] * 300_000) + "]}",
    "many fields in many ports": '{"image":"a","ports":['
    + ",".join(["{" + numbered('"{}":1', 500) + "}"] * 120)
    + "]}",
    "a long number": '{"image":"a","mem":' + "9" * (MAX_BODY - 100) + "}",
    "a long text": '{"image":"' + "a" * (MAX_BODY - 100) + '"}',
    "a long id": '{"image":"a","type":"fake","id":"' + "a" * (MAX_BODY - 100) + '"}',
    "a long key": '{"image":"a","' + "a" * (MAX_BODY - 100) + '":1}',
    "the same key": '{"image":"a",' + ",".join(['"image":"a"'] * 80_000) + "}",
}


@pytest.mark.parametrize("name", BODIES)
def test_cve_2026_41648_a_body_of_any_shape_is_refused_soon_and_in_few_words(still_server: Server, name: str) -> None:
    body = BODIES[name].encode()
    assert len(body) <= MAX_BODY
    began = time.process_time()
    reply = still_server.ask("POST", "/hyper/machines", raw=body, headers={"Content-Type": "application/json"})
    assert time.process_time() - began < SOON_S
    assert 400 <= reply.status < 500
    assert len(reply.body) < 16_384


def test_cve_2026_41685_a_body_without_end_is_refused_and_nothing_of_it_is_kept(still_server: Server) -> None:
    before = memory_bytes()
    with connect(still_server.url) as connection:
        connection.sendall(b"POST /hyper/machines HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n")
        identity = still_server.identity["Authorization"]
        connection.sendall(f"Authorization: {identity}\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        send_until_cut_off(connection, b"10000\r\n" + b"a" * 65536 + b"\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 413")
        assert_answers(still_server.client)
        assert memory_bytes() - before < 32 * 2**20


def memory_bytes() -> int:
    """Of this process, in which the server is."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_header_without_end_is_cut_off(still_server: Server) -> None:
    with connect(still_server.url) as connection:
        connection.sendall(b"GET /hyper/health HTTP/1.1\r\nHost: localhost\r\nX: ")
        sent = send_until_cut_off(connection, b"a" * 65536)
    assert sent < 8 * 2**20
    assert_answers(still_server.client)


def send_until_cut_off(connection: socket.socket, piece: bytes) -> int:
    sent = 0
    try:
        while sent < 2**27:
            connection.sendall(piece)
            sent += len(piece)
    except OSError:
        pass
    return sent


BEGINNINGS = {
    "headers": (500, "GET /hyper/machines {head}"),
    "bodies": (
        200,
        "POST /hyper/machines {head}Content-Type: application/json\r\nContent-Length: 99\r\n\r\n{{",
    ),
    "uploads": (
        200,
        "PUT /hyper/images/i{number}?type=raw {head}Content-Length: 99\r\n\r\nx",
    ),
    "streams": (MAX_STREAMS + 20, "GET /hyper/events {head}\r\n"),
}


@pytest.mark.parametrize("kind", BEGINNINGS)
def test_hundreds_of_requests_that_stand_still_leave_room_for_others(server: Server, kind: str) -> None:
    number, beginning = BEGINNINGS[kind]
    with many(server, number, beginning) as opened:
        if kind in ("uploads", "streams"):
            turned_away: set[socket.socket] = set()
            few = {"uploads": MAX_UPLOADS, "streams": MAX_STREAMS}[kind]

            def most_are_turned_away() -> bool:
                turned_away.update(each for each in opened if each not in turned_away and answered(each))
                return len(turned_away) >= number - few

            eventually("there is room for few only", most_are_turned_away)
        assert_answers(server.client)
        assert server.client.machines.list() == []
    assert server.client.images.list() == []


def test_hundreds_that_wait_for_a_machine_leave_room_for_others(start_server: StartServer) -> None:
    server = start_server({"start_delay_s": "3600"})
    spec = {"image": "any", "type": "fake", "id": "slow", "mem": 64}
    assert server.ask("POST", "/hyper/machines", spec, {"Prefer": "respond-async"}).status == 201
    waiting = "GET /hyper/machines/slow {head}Prefer: wait=600\r\n\r\n"
    with many(server, MAX_WAITERS + 200, waiting):
        assert_answers(server.client)
        assert server.client.machines.get("slow")["state"] == "starting"


def answered(connection: socket.socket) -> bool:
    """Whether the answer is that there is no room; a request that has a place is silent, or streams."""
    connection.settimeout(0.05)
    try:
        return connection.recv(100).startswith(b"HTTP/1.1 503")
    except TimeoutError:
        return False


def test_hundreds_of_creations_at_once_make_what_fits_and_refuse_the_rest(server: Server) -> None:
    def create(_number: int) -> tuple[int, str]:
        reply = server.ask("POST", "/hyper/machines", {"image": "any", "type": "fake", "mem": 512})
        return reply.status, reply.json().get("code", "")

    with ThreadPoolExecutor(32) as pool:
        outcomes = list(pool.map(create, range(200)))
    assert outcomes.count((201, "")) == len(server.client.machines.list()) == 4096 // 512
    assert set(outcomes) == {(201, ""), (409, "capacity-exceeded")}
    assert_answers(server.client)


def test_ports_by_the_hundred_do_not_use_up_the_files_of_the_agent(tmp_path: Path) -> None:
    with program(tmp_path / "data", "prlimit", "--nofile=256:8192", "--") as (pid, client):
        for machine_id in ("one", "two", "three"):
            ports = [{"node_port": free_port(), "machine_port": 80} for _ in range(100)]
            spec = {"image": "any", "type": "fake", "id": machine_id, "state": "stopped", "ports": ports, "mem": 1}
            assert client.machines.add(spec)["state"] == "stopped"
        assert_answers(client)
        assert len(list(Path(f"/proc/{pid}/fd").iterdir())) > 600


@pytest.mark.parametrize("target", ["/hyper/machines?limit=1001", "/hyper/machines/web/log?limit=1048577"])
def test_nobody_is_told_more_at_once_than_there_is_room_for(server: Server, web: dict[str, str], target: str) -> None:
    assert server.ask("GET", target).status == 422


def test_the_key_of_a_creation_is_bounded_and_makes_one_machine_of_one_request(server: Server) -> None:
    spec = {"image": "any", "type": "fake", "id": "web", "mem": 64}
    made = server.ask("POST", "/hyper/machines", spec, {"Idempotency-Key": "k" * 255})
    again = server.ask("POST", "/hyper/machines", spec, {"Idempotency-Key": "k" * 255})
    assert (made.status, again.json()["created_at"]) == (201, made.json()["created_at"])
    other = server.ask("POST", "/hyper/machines", {**spec, "id": "other"}, {"Idempotency-Key": "k" * 255})
    assert (other.status, other.json()["code"]) == (409, "conflict")
    longer = server.ask("POST", "/hyper/machines", {**spec, "id": "other"}, {"Idempotency-Key": "k" * 256})
    assert (longer.status, longer.json()["field"]) == (422, "Idempotency-Key")


def test_the_key_of_a_removed_machine_never_leads_to_its_successor(server: Server) -> None:
    spec = {"image": "any", "type": "fake", "id": "web", "mem": 64}
    server.ask("POST", "/hyper/machines", spec, {"Idempotency-Key": "first"})
    server.client.machines.remove("web")
    assert server.ask("GET", "/hyper/machines/web").status == 404
    eventually("the id is free", lambda: server.client.machines.list() == [])
    assert server.client.machines.add(spec)["id"] == "web"
    stale = server.ask("POST", "/hyper/machines", spec, {"Idempotency-Key": "first"})
    assert (stale.status, stale.json()["code"]) == (404, "not-found")
