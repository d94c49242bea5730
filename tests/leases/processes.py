"""The agent, the watchdog and the fence as processes of a host, to be killed and frozen."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.api.conftest import client_of
from tests.api.test_serve import url_of
from tests.databases import put_agent_database
from tests.leases.words import CONTROLLER, HOLDER, KEY, eventually

from garbi.hyper_api.assignment import Assignment
from garbi.hyper_api.client import HyperClient

HYPER = Path(sys.executable).parent / "hyper"
LIMIT_S = 120.0
TTL_S = 5.0
"""The shortest that a lease can have."""

ORDER = Assignment(CONTROLLER, HOLDER, term=1, lease=1, epoch=1)


@dataclass
class Processes:
    """The processes of one data directory; those that still live at the end are killed."""

    data_dir: Path
    settings: Mapping[str, str] = field(default_factory=lambda: {"GARBI_DRIVER_FAKE_PERSIST": "true"})
    started: list[subprocess.Popen[str]] = field(default_factory=list)
    url: str = ""

    def start(self, verb: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        if verb == "serve":
            put_agent_database(self.data_dir)
        process = subprocess.Popen(
            [HYPER, verb, "--data-dir", str(self.data_dir), *arguments],
            env={**os.environ, **self.settings, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process

    def serve(self, **environment: str) -> tuple[subprocess.Popen[str], HyperClient]:
        """A served agent, and a client of it."""
        process = self.start("serve", "--port", "0", **environment)
        self.url = url_of(process)
        return process, self.client()

    def client(self) -> HyperClient:
        """A client of the agent, with connections of its own: those of a frozen one are no longer good."""
        return client_of(self.url, self.data_dir)

    def watch(self, **environment: str) -> subprocess.Popen[str]:
        return self.start("watchdog", **environment)

    def fence(self, number: int = 1) -> tuple[int, dict[str, Any]]:
        """What `hyper fence` ends with and prints."""
        process = self.start("fence", "--controller", CONTROLLER, "--number", str(number))
        printed, complaint = process.communicate(timeout=LIMIT_S)
        assert printed.count("\n") == 1, complaint
        report: dict[str, Any] = json.loads(printed)
        return process.returncode, report

    def end(self) -> None:
        for process in self.started:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.communicate(timeout=LIMIT_S)


@contextmanager
def processes(data_dir: Path, settings: Mapping[str, str] | None = None) -> Iterator[Processes]:
    """The processes of a directory, for as long as the block runs."""
    running = Processes(data_dir) if settings is None else Processes(data_dir, settings)
    try:
        yield running
    finally:
        running.end()


def renew(client: HyperClient, seen: Mapping[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """Renew the lease as who has seen an earlier answer. Two other nodes exist, and are silent."""
    moment = None if seen is None else {"boot_id": seen["boot_id"], "moment": seen["moment"]}
    body = {"term": 1, "holder": HOLDER, "number": 1, "ttl_s": TTL_S, "seen": moment, "arm": True, "witness_key": KEY}
    return client.leases.renew(CONTROLLER, {**body, "peers": ["127.0.0.1:1", "127.0.0.1:2"], **changes})


def arm(client: HyperClient, ttl_s: float = TTL_S) -> dict[str, Any]:
    """Renew a lease until it ends by itself, which it does once a watchdog works."""
    answers = [renew(client, ttl_s=ttl_s)]

    def armed() -> bool:
        answers.append(renew(client, answers[-1], ttl_s=ttl_s))
        return bool(answers[-1]["armed"])

    eventually("the watchdog works", armed)
    return answers[-1]


def machine(name: str, policy: str = "recreate", **others: Any) -> dict[str, Any]:
    """A machine that the controller orders."""
    labels = {"garbi.controller": CONTROLLER, "garbi.epoch": "1"}
    return {"image": "any", "type": "fake", "id": name, "labels": labels, "on_node_failure": policy, **others}
