"""The client behind its one-method seam: what it sends, how it reads answers, errors and event streams."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import pytest

from garbi.base.calls import PAGE, read_events
from garbi.base.errors import GarbiError, InvalidField, NotFound, PortTaken, ServerUnreachable
from garbi.base.http import BLOCK, Answer, HttpTransport, Request
from garbi.base.problem import from_problem, to_problem
from garbi.hyper_api.client import HyperClient


@dataclass
class Recorder:
    """A transport that answers what it was told to, and remembers what it was asked."""

    answers: list[tuple[int, Any]]
    asked: list[Request] = field(default_factory=list)

    def send(self, request: Request) -> Answer:
        self.asked.append(request)
        status, document = self.answers.pop(0)
        content = document if isinstance(document, bytes) else json.dumps(document).encode()
        return Answer(status, {}, iter([content]))


def client_of(*answers: tuple[int, Any]) -> tuple[HyperClient, Recorder]:
    recorder = Recorder(list(answers))
    return HyperClient(transport=recorder), recorder


def test_a_creation_says_how_long_it_waits_and_by_which_key() -> None:
    client, recorder = client_of((201, {"id": "web"}))
    assert client.machines.add({"image": "tiny"}, wait_s=60, idempotency_key="k1") == {"id": "web"}
    (request,) = recorder.asked
    assert (request.method, request.target) == ("POST", "/hyper/machines")
    assert request.headers == {"Idempotency-Key": "k1", "Prefer": "wait=60", "Content-Type": "application/json"}
    assert request.body == b'{"image": "tiny"}'
    assert request.timeout_s > 60


def test_no_patience_asks_for_an_answer_at_once() -> None:
    client, recorder = client_of((200, {}))
    client.machines.wish("web", "stopped", wait_s=0)
    assert recorder.asked[0].headers["Prefer"] == "respond-async"


def test_a_removal_is_told_from_one_that_goes_on() -> None:
    client, _ = client_of((204, b""), (202, {"id": "web", "state": "removing"}))
    assert client.machines.remove("web") is None
    assert client.machines.remove("web") == {"id": "web", "state": "removing"}


def test_names_cannot_leave_their_place_in_the_path() -> None:
    client, recorder = client_of((200, {}))
    client.machines.get("a?b#c d%2f")
    assert recorder.asked[0].target == "/hyper/machines/a%3Fb%23c%20d%252f"
    for id in ("", ".", "..", "a/b", "../hyper/images"):
        with pytest.raises(NotFound):
            client.machines.get(id)


def test_a_list_is_read_page_by_page() -> None:
    first = [{"id": f"m{number}"} for number in range(PAGE)]
    client, recorder = client_of((200, first), (200, [{"id": "last"}]))
    assert len(client.machines.list({"state": "running"})) == PAGE + 1
    assert recorder.asked[1].target == f"/hyper/machines?state=running&limit={PAGE}&marker=m{PAGE - 1}"


def test_a_problem_becomes_the_error_that_it_was() -> None:
    problem = to_problem(PortTaken("port 80/tcp belongs to nginx", holder="process 7 (nginx)"))
    client, _ = client_of((409, problem))
    with pytest.raises(PortTaken) as caught:
        client.machines.add({})
    assert caught.value.detail == "port 80/tcp belongs to nginx"
    assert caught.value.extra == {"holder": "process 7 (nginx)"}


@pytest.mark.parametrize("content", [b"", b"<html>", b"[]", b'{"code": "from-the-future", "detail": "new"}'])
def test_an_error_that_is_no_known_problem_is_an_error_still(content: bytes) -> None:
    client, _ = client_of((500, content))
    with pytest.raises(GarbiError):
        client.host()


@pytest.mark.parametrize("content", [b"", b"<html>", b"[]", b"3"])
def test_an_answer_that_is_no_document_comes_from_a_stranger(content: bytes) -> None:
    client, _ = client_of((200, content))
    with pytest.raises(ServerUnreachable, match="not a service"):
        client.host()


def test_events_are_read_from_whatever_pieces_they_come_in() -> None:
    stream = (
        b': events after 0\n\nid: 1\nevent: state\ndata: {"seq": 1}\n\n: still here\n\nid: 2\ndata: {"seq": 2}\n\nid: 3'
    )
    for size in (1, 7, 1000):
        pieces = [stream[start : start + size] for start in range(0, len(stream), size)]
        assert [event["seq"] for event in read_events(pieces)] == [1, 2]


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:8081",
        "ftp://host",
        "http://",
        "http://host:port",
        "http://host:65536",
        "http://host/path",
        "http://host?query",
        "http://a host",
        "http://me@host",
        "http://[::1",
    ],
)
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(InvalidField):
        HttpTransport(url)


def test_a_port_where_nobody_listens_is_named() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
        with pytest.raises(ServerUnreachable, match=url) as caught:
            HyperClient(url).health()
    assert "refused" in caught.value.detail


@contextmanager
def peer(answer: bytes) -> Iterator[str]:
    """Something that takes one connection, sends some bytes and closes it; the URL of it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread.join()


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_what_speaks_no_http_or_breaks_off_is_unreachable(answer: bytes) -> None:
    with peer(answer) as url, pytest.raises(ServerUnreachable):
        HyperClient(url).host()


def test_a_redirect_is_not_followed() -> None:
    with (
        peer(b"HTTP/1.1 307 X\r\nLocation: http://192.0.2.1/\r\nContent-Length: 0\r\n\r\n") as url,
        pytest.raises(GarbiError),
    ):
        HyperClient(url).host()


def test_a_server_that_is_silent_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        transport = HttpTransport(f"http://127.0.0.1:{listener.getsockname()[1]}")
        with pytest.raises(ServerUnreachable, match="did not answer"):
            transport.send(Request("GET", "/", timeout_s=0.2))


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".."])
def test_a_new_image_whose_name_is_a_path_is_refused_before_anything_is_sent(name: str) -> None:
    with pytest.raises(InvalidField) as caught:
        HyperClient("http://127.0.0.1:1").images.add(name, "raw", [b"x"], 1)
    assert caught.value.extra["field"] == "name"


@pytest.mark.parametrize("body", [b"[1]", b"[" * 100_000, b"{}"])
def test_a_list_that_is_none_is_no_answer_of_hyper(body: bytes) -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    with peer(answer) as url, pytest.raises(ServerUnreachable):
        HyperClient(url).machines.list()


def test_a_problem_may_have_members_of_any_name() -> None:
    error = from_problem({"code": "not-found", "detail": "gone", "self": 1, "field": "id"}, 404)
    assert (error.detail, error.extra["self"]) == ("gone", 1)


def test_a_host_that_does_not_even_connect_is_waited_for_no_longer_than_one_that_does_not_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("garbi.base.http.CONNECT_S", 10_000.0)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server, ExitStack() as waiting:
        for _ in range(4):  # nobody accepts them: there is room for no more
            client = waiting.enter_context(closing(socket.socket()))
            client.setblocking(False)
            client.connect_ex(server.getsockname())
        with pytest.raises(ServerUnreachable):
            HttpTransport(f"http://127.0.0.1:{server.getsockname()[1]}").send(Request("GET", "/", timeout_s=0.2))


FIN_WAIT_1 = 4
"""A state of a TCP connection: its end was sent, and has not arrived."""

PAGE_OF_TWO = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


@contextmanager
def server(serve: Callable[[socket.socket], None]) -> Iterator[tuple[HttpTransport, list[socket.socket]]]:
    """Something that serves each connection in a thread of its own; a client of it, and the connections that it made."""
    with socket.create_server(("127.0.0.1", 0)) as listener, ExitStack() as stack:
        lines: list[socket.socket] = []

        def work(line: socket.socket) -> None:
            with suppress(OSError):  # the client may hang up
                serve(line)

        def accept() -> None:
            while True:
                try:
                    line, _ = listener.accept()
                except OSError:
                    return
                stack.enter_context(line)
                lines.append(line)
                threading.Thread(target=work, args=(line,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        transport = HttpTransport(f"http://127.0.0.1:{listener.getsockname()[1]}")
        stack.callback(transport.close)
        yield transport, lines


def test_a_connection_is_kept_for_the_next_request() -> None:
    def serve(line: socket.socket) -> None:
        while line.recv(BLOCK):
            line.sendall(PAGE_OF_TWO)

    with server(serve) as (transport, lines):
        for _ in range(3):
            assert transport.send(Request("GET", "/")).read() == b"{}"
        assert len(lines) == 1


def test_a_connection_that_the_server_gave_up_is_not_used_again() -> None:
    ended = threading.Event()

    def serve(line: socket.socket) -> None:
        line.recv(BLOCK)
        line.sendall(PAGE_OF_TWO)
        line.shutdown(socket.SHUT_RDWR)
        while line.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == FIN_WAIT_1:
            pass  # the client's kernel does not know yet
        ended.set()

    with server(serve) as (transport, lines):
        for _ in range(3):
            ended.clear()
            assert transport.send(Request("GET", "/")).read() == b"{}"
            assert ended.wait(60)
        assert len(lines) == 3


def test_a_refusal_is_heard_although_the_server_takes_no_more_of_the_body() -> None:
    def serve(line: socket.socket) -> None:
        line.recv(1)
        line.sendall(b"HTTP/1.1 409 Conflict\r\nContent-Length: 2\r\n\r\n{}")
        line.shutdown(socket.SHUT_WR)
        while line.recv(BLOCK):
            if heard.is_set():
                line.close()
                return

    heard = threading.Event()

    def body() -> Iterator[bytes]:
        for number in range(100_000):
            yield bytes(BLOCK)
            if number == 100:
                heard.set()

    with server(serve) as (transport, _):
        answer = transport.send(Request("PUT", "/", {"Content-Length": str(100_000 * BLOCK)}, body()))
        assert (answer.status, answer.read()) == (409, b"{}")


def test_an_answer_comes_as_it_arrives_and_ends_when_the_client_is_closed() -> None:
    def serve(line: socket.socket) -> None:
        line.recv(BLOCK)
        line.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
        line.recv(BLOCK)  # and says no more

    with server(serve) as (transport, _):
        answer = transport.send(Request("GET", "/"))
        assert next(answer.chunks) == b"one"
        transport.close()
        with pytest.raises(ServerUnreachable):
            next(answer.chunks)
        with pytest.raises(ServerUnreachable):
            transport.send(Request("GET", "/"))
