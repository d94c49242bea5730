"""`hyper serve` as a process: where it listens, whom it refuses, how it ends."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests.api.conftest import HYPER, LIMIT_S, client_of, run_hyper
from tests.databases import put_agent_database

from garbi.base.token import TOKEN_FILE, read_secret

Serve = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def serve(data_dir: Path) -> Iterator[Serve]:
    """Starts `hyper serve` on a free port."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str, **settings: str) -> subprocess.Popen[str]:
        environment = {**os.environ, "GARBI_DRIVER_FAKE_PERSIST": "true", **settings}
        put_agent_database(data_dir)
        command = [HYPER, "serve", "--port", "0", "--data-dir", str(data_dir), *arguments]
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate(timeout=LIMIT_S)


def url_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    match = re.search(r"http://\S+", line)
    assert match, f"{line!r} {process.stderr.read() if process.stderr and process.poll() is not None else ''}"
    return match.group()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_answers_until_a_signal_and_ends_in_order(
    serve: Serve, data_dir: Path, number: signal.Signals
) -> None:
    process = serve()
    client = client_of(url_of(process), data_dir)
    assert client.health()["status"] == "ok"
    assert client.host()["disk"]["path"]
    process.send_signal(number)
    assert process.wait(LIMIT_S) == 0
    assert process.stderr is not None
    assert "Traceback" not in process.stderr.read()


def test_what_waits_does_not_hold_the_end(serve: Serve, data_dir: Path) -> None:
    process = serve(GARBI_DRIVER_FAKE_ADD_DELAY_S="2")
    address = urlsplit(url_of(process))
    identity = {"Authorization": f"Bearer {read_secret(data_dir / TOKEN_FILE)}"}
    waiting = HTTPConnection(address.netloc, timeout=LIMIT_S)
    body = '{"image": "any", "type": "fake", "id": "web"}'
    headers = {**identity, "Content-Type": "application/json", "Prefer": "wait=600"}
    waiting.request("POST", "/hyper/machines", body, headers)
    stream = HTTPConnection(address.netloc, timeout=LIMIT_S)
    stream.request("GET", "/hyper/events", headers=identity)
    assert stream.getresponse().status == 200
    upload = socket.create_connection((address.hostname or "", address.port or 0))
    upload.settimeout(LIMIT_S)
    head = "PUT /hyper/images/half?type=raw HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n"
    upload.sendall(f"{head}Authorization: {identity['Authorization']}\r\nExpect: 100-continue\r\n\r\n".encode())
    assert upload.recv(100).startswith(b"HTTP/1.1 100 ")  # the server asks for the content: it waits for it now
    upload.sendall(b"beginning")
    process.terminate()
    assert process.wait(LIMIT_S) == 0
    assert upload.recv(100).startswith(b"HTTP/1.1 503 ")
    assert process.stderr is not None
    assert "Traceback" not in process.stderr.read()
    for open_end in (waiting, stream, upload):
        open_end.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_that_comes_as_soon_as_the_address_is_told_is_not_lost(serve: Serve, number: signal.Signals) -> None:
    process = serve()
    url_of(process)
    process.send_signal(number)
    assert process.wait(LIMIT_S) == 0


def test_a_port_that_is_taken_is_an_error(serve: Serve) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        process = serve("--port", str(taken.getsockname()[1]))
        _, errors = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 1
    assert errors.startswith("hyper: port ")
    assert "in use" in errors


def test_a_second_agent_on_the_same_directory_is_refused(serve: Serve) -> None:
    url_of(serve())
    second = serve()
    _, errors = second.communicate(timeout=LIMIT_S)
    assert second.returncode == 1
    assert errors.startswith("hyper: ")
    assert "Traceback" not in errors


@pytest.mark.parametrize("how", ["option", "variable"])
def test_an_address_that_others_reach_needs_a_word_of_consent(data_dir: Path, how: str) -> None:
    option = ["--host", "0.0.0.0"] if how == "option" else []
    variable = {"GARBI_HYPER_HOST": "0.0.0.0"} if how == "variable" else {}
    refused = run_hyper("serve", *option, "--data-dir", str(data_dir / "x"), environment={**os.environ, **variable})
    assert refused.returncode == 1
    assert "in the clear" in refused.stderr
    assert not (data_dir / "x").exists()


def test_with_consent_it_answers_for_the_address_that_was_reached(serve: Serve, data_dir: Path) -> None:
    url = url_of(serve("--host", "0.0.0.0", "--allow-remote"))
    port = urlsplit(url).port
    assert client_of(f"http://127.0.0.1:{port}", data_dir).health()["status"] == "ok"
    connection = HTTPConnection("127.0.0.1", port, timeout=LIMIT_S)
    connection.request("GET", "/hyper/health", headers={"Host": "192.0.2.7"})
    assert connection.getresponse().status == 403
    connection.close()


def test_ipv6_loopback_works(serve: Serve, data_dir: Path) -> None:
    assert client_of(url_of(serve("--host", "::1")), data_dir).health()["status"] == "ok"


def test_a_server_whose_host_goes_down_tells_its_controller_before_it_ends(
    serve: Serve, data_dir: Path, tmp_path: Path
) -> None:
    program = tmp_path / "systemctl"
    program.write_text("#!/bin/sh\necho stopping\nexit 1\n")
    program.chmod(0o755)
    process = serve(PATH=f"{tmp_path}:{os.environ['PATH']}")
    client = client_of(url_of(process), data_dir)
    renewal = {"term": 1, "holder": "a1", "number": 1, "ttl_s": 45, "witness_key": "k5BaQ2tXv0yH3mWn7LrD"}
    assert client.leases.renew("c" * 32, renewal)["going_down"] is False
    process.send_signal(signal.SIGTERM)
    while not client.leases.renew("c" * 32, renewal)["going_down"]:
        assert process.poll() is None, "it ended without a word"
    assert process.wait(LIMIT_S) == 0
