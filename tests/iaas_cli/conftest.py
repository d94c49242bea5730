"""Commands of iaas as processes, on terminals too; and servers that answer as they are told, which need not be ours."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pexpect
import pytest
from hypothesis import HealthCheck, settings
from tests.run_dir import RUN_DIR

from garbi.iaas.cli.app import run

settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

IAAS = [sys.executable, "-m", "garbi.iaas.cli"]
LIMIT_S = 120.0
ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[()][A-Z0-9]|\x1b[=>78]|\r")

Answer = tuple[int, Any]
Spawn = Callable[..., pexpect.spawn]
Run = Callable[..., subprocess.CompletedProcess[str]]


@dataclass
class Asked:
    """A request as it came."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Stranger:
    """A server that gives the answers it was told: by method and path, in turn, the last one for ever; else 404."""

    url: str = ""
    answers: dict[str, list[Answer]] = field(default_factory=dict)
    fallback: Answer = (404, {"code": "not-found", "title": "Not found", "detail": "nothing is here", "status": 404})
    asked: list[Asked] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def tell(self, request: str, *answers: Answer) -> None:
        """Have a request, such as `GET /iaas/machines`, answered so."""
        self.answers[request] = list(answers)

    def answer(self, asked: Asked) -> Answer:
        with self.lock:
            self.asked.append(asked)
            waiting = self.answers.get(f"{asked.method} {asked.target.partition('?')[0]}")
            if not waiting:
                return self.fallback
            return waiting.pop(0) if len(waiting) > 1 else waiting[0]

    def bodies(self, method: str) -> list[Any]:
        """The documents that were sent with a method."""
        return [each.json() for each in self.asked if each.method == method]


@pytest.fixture
def stranger() -> Iterator[Stranger]:
    known = Stranger()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            status, document = known.answer(Asked(self.command, self.path, headers, body))
            content = document if isinstance(document, bytes) else json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_PUT = do_POST = do_DELETE = do_HEAD = do_PATCH = do_GET  # noqa: N815 - names of the library

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            """A client that goes away in the middle of an answer is no news."""

    server = Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    known.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield known
    server.shutdown()
    thread.join(LIMIT_S)
    server.server_close()


def environment_of(home: Path, url: str, token_file: Path | None = None) -> dict[str, str]:
    """What a command sees: this server, no other settings, a home of its own."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("GARBI_", "XDG_")) or name == RUN_DIR
    }
    token = {} if token_file is None else {"GARBI_IAAS_TOKEN_FILE": str(token_file)}
    return kept | {"GARBI_IAAS_URL": url, "HOME": str(home), "TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1"} | token


def run_iaas(environment: dict[str, str], *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run one command."""
    return subprocess.run(
        [*IAAS, *arguments], input=stdin, env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False
    )


@pytest.fixture
def run_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs one command in this process, which is quicker than one of its own; the home is the test's."""
    for name in [each for each in os.environ if each.startswith(("GARBI_", "XDG_")) and each != RUN_DIR]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))

    def start(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        capsys.readouterr()
        status = run(arguments)
        printed = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, status, printed.out, printed.err)

    return start


@pytest.fixture
def iaas(stranger: Stranger, run_here: Run) -> Run:
    """Runs one command against the server that answers as it is told."""
    return lambda *arguments, stdin="": run_here("--url", stranger.url, *arguments, stdin=stdin)


@pytest.fixture
def spawn(tmp_path: Path) -> Iterator[Spawn]:
    """Starts iaas on a terminal of its own, with a home of its own."""
    running: list[pexpect.spawn] = []

    def start(url: str, *arguments: str, token_file: Path | None = None) -> pexpect.spawn:
        child = pexpect.spawn(
            IAAS[0],
            [*IAAS[1:], *arguments],
            env=environment_of(tmp_path, url, token_file),
            timeout=LIMIT_S,
            encoding="utf-8",
            dimensions=(40, 180),
            use_poll=True,
        )
        running.append(child)
        return child

    yield start
    for child in running:
        child.close(force=True)


def read_all(child: pexpect.spawn) -> str:
    """All that was printed until the end, without colours and movements."""
    child.expect(pexpect.EOF)
    child.close()
    return ESCAPES.sub("", child.before)
