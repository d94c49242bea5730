"""What a cloud is measured on: a controller of its own, whose nodes are agents of their own on this host."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from shutil import rmtree
from types import TracebackType

from benchmarks.bed import BIN, LOG, PATIENCE_S, Bed, free_port, resident_mib, run
from garbi.base.errors import ServerUnreachable
from garbi.base.token import TOKEN_FILE, read_secret
from garbi.iaas_api.client import IaasClient

MANY = {"GARBI_HYPER_CPU_OVERCOMMIT": "1000"}
"""Enough processors for a thousand fake machines, which need none."""


class CloudBed:
    """A running `iaas serve` and its nodes n1, n2, …; everything they made is gone when the context ends."""

    def __init__(self, nodes: int, settings: Mapping[str, str] | None = None) -> None:
        """`settings` are variables for the agents, in place of those for a thousand machines."""
        self._settings = settings or MANY
        self._stack = ExitStack()
        self._process: subprocess.Popen[bytes] | None = None
        self._nodes = nodes
        self.agents: list[Bed] = []
        self.data_dir = Path(tempfile.mkdtemp(prefix="garbi-bench-", dir="/var/tmp"))
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._token_file = self.data_dir / TOKEN_FILE
        identity = {"GARBI_IAAS_URL": self.url, "GARBI_IAAS_TOKEN_FILE": str(self._token_file)}
        self.environment = {**os.environ, **identity}

    def __enter__(self) -> CloudBed:
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def client(self) -> IaasClient:
        """A client with connections of its own."""
        return IaasClient(self.url, token=self.token)

    @property
    def token(self) -> str:
        """What the controller knows its owner by."""
        return read_secret(self._token_file)

    def iaas(self, *arguments: str) -> str:
        """Run a command line of ours; what it printed."""
        return run([str(BIN / "iaas"), *arguments], self.environment)

    def resident_mib(self) -> float:
        """The resident memory of the controller."""
        return resident_mib(self._running().pid)

    def kill(self) -> None:
        """Kill the controller, as nothing is killed that could prepare for it."""
        process = self._running()
        process.kill()
        process.wait()

    def serve_again(self) -> None:
        """Start a controller, and wait until it answers."""
        command = [str(BIN / "iaas"), "serve", "--port", str(self.port), "--data-dir", str(self.data_dir)]
        self._process = subprocess.Popen(command, stdout=self._log, stderr=self._log)
        self._wait_for_answers()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("no controller was started")
        return self._process

    def _start(self) -> None:
        self._stack.callback(rmtree, self.data_dir)
        self.agents = [self._stack.enter_context(Bed(self._settings)) for _ in range(self._nodes)]
        self._log = self._stack.enter_context((self.data_dir / LOG).open("ab"))
        self._stack.callback(self._stop)
        self.serve_again()
        client = self.client()
        for number, agent in enumerate(self.agents, 1):
            address = agent.url.removeprefix("http://")
            spec = {"name": f"n{number}", "address": address, "provision": False, "overcommit": {"cpus": 1000}}
            *_, operation = client.operations.follow(client.nodes.add({**spec, "token": agent.token})["operation"])
            if operation["state"] != "done":
                raise RuntimeError(f"no node: {operation['error']}")

    def _stop(self) -> None:
        if self._process is None:
            return
        self._process.terminate()
        self._process.wait()

    def _wait_for_answers(self) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                self.client().health()
            except (OSError, ServerUnreachable):
                if self._running().poll() is not None:
                    words = (self.data_dir / LOG).read_text(encoding="utf-8", errors="replace")
                    raise RuntimeError(f"the controller ended: {words[-2000:]}") from None
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
            else:
                return
