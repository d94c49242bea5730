"""Whoever listens at the agent's address while it is away: a command may be told anything, and must print it harmless."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import unicodedata
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from tests.api.conftest import HYPER

HOSTILE = "a\x1b]0;title\x07\x1b[2J\u202e\r\x9b1m\u2028\n{{7919*7919}}"
MACHINE = {
    **dict.fromkeys(
        ("id", "name", "type", "image", "state", "reason", "address", "mem", "cpus", "created_at"), HOSTILE
    ),
    **{"wish": "running", "settled": True, "labels": {HOSTILE: HOSTILE}, HOSTILE: HOSTILE},
    "ports": [{"node_port": HOSTILE, "machine_port": HOSTILE, "protocol": HOSTILE}],
}
IMAGE = dict.fromkeys(("name", "type", "size", "virtual_size", "state", "sha256", "created_at"), HOSTILE)
PROBLEM = {"code": HOSTILE, "title": HOSTILE, "detail": HOSTILE, "errors": [{"detail": HOSTILE}], "field": HOSTILE}
ANSWERS: dict[str, tuple[list[str], int, Any]] = {
    "list": (["list"], 200, [MACHINE]),
    "ids": (["list", "-q"], 200, [MACHINE]),
    "yaml": (["list", "-o", "yaml"], 200, [MACHINE]),
    "json": (["list", "-o", "json"], 200, [MACHINE]),
    "show": (["show", "web"], 200, MACHINE),
    "start": (["start", "web"], 200, MACHINE),
    "log": (["log", "web"], 200, HOSTILE),
    "images": (["images", "ls"], 200, [IMAGE]),
    "drivers": (["drivers"], 200, [{"name": HOSTILE, "available": HOSTILE, "abilities": [HOSTILE]}]),
    "host": (["host"], 200, {HOSTILE: {HOSTILE: HOSTILE}}),
    "audit": (["audit"], 200, [{"invariant": HOSTILE, "subject": HOSTILE, "detail": HOSTILE}]),
    "refusal": (["start", "web"], 409, PROBLEM),
    "several": (["show", "web"], 422, {**PROBLEM, "code": "invalid-field"}),
    "no list of errors": (["show", "web"], 422, {**PROBLEM, "errors": 5}),
}


@pytest.fixture(scope="module")
def stranger() -> Iterator[ThreadingHTTPServer]:
    """A server that gives the answer that its attribute `answer` holds, to every request."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, content = self.server.answer  # type: ignore[attr-defined]
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_PUT = do_POST = do_DELETE = do_GET  # noqa: N815 - names of the library

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join(60)
    server.server_close()


@pytest.mark.parametrize("name", ANSWERS)
def test_nothing_that_a_server_says_moves_the_cursor(stranger: ThreadingHTTPServer, name: str) -> None:
    command, status, document = ANSWERS[name]
    content = document if isinstance(document, str) else json.dumps(document)
    stranger.answer = (status, content.encode())  # type: ignore[attr-defined]
    environment = {**os.environ, "GARBI_HYPER_URL": f"http://127.0.0.1:{stranger.server_port}"}
    done = subprocess.run([HYPER, *command], env=environment, capture_output=True, timeout=60, check=False)
    said = (done.stdout + done.stderr).decode()
    assert "Traceback" not in said
    assert said
    moving = [char for char in said if unicodedata.category(char) in ("Cc", "Cf", "Zl", "Zp") and char not in "\n\t"]
    assert moving == []
