"""What a cloud is measured on: a controller of its own, whose nodes are agents of their own on this host."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from shutil import rmtree
from types import TracebackType

from benchmarks.bed import BIN, PATIENCE_S, Bed, free_port, resident_mib, run
from garbi.base.errors import ServerUnreachable
from garbi.base.token import TOKEN_FILE, read_secret
from garbi.iaas_api.client import IaasClient

MANY = {"GARBI_HYPER_CPU_OVERCOMMIT": "1000"}
"""Enough processors for a thousand fake machines, which need none."""


class CloudBed:
    """A running `iaas serve` and its nodes n1, n2, …; everything they made is gone when the context ends."""

    def __init__(self, nodes: int) -> None:
        self._stack = ExitStack()
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
        return resident_mib(self._process.pid)

    def _start(self) -> None:
        self._stack.callback(rmtree, self.data_dir)
        self.agents = [self._stack.enter_context(Bed(MANY)) for _ in range(self._nodes)]
        log = self._stack.enter_context((self.data_dir / "serve.log").open("wb"))
        command = [str(BIN / "iaas"), "serve", "--port", str(self.port), "--data-dir", str(self.data_dir)]
        self._process = subprocess.Popen(command, stdout=log, stderr=log)
        self._stack.callback(self._stop)
        self._wait_for_answers()
        client = self.client()
        for number, agent in enumerate(self.agents, 1):
            address = agent.url.removeprefix("http://")
            spec = {"name": f"n{number}", "address": address, "provision": False, "overcommit": {"cpus": 1000}}
            *_, operation = client.operations.follow(client.nodes.add({**spec, "token": agent.token})["operation"])
            if operation["state"] != "done":
                raise RuntimeError(f"no node: {operation['error']}")

    def _stop(self) -> None:
        self._process.terminate()
        self._process.wait()

    def _wait_for_answers(self) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                self.client().health()
            except (OSError, ServerUnreachable):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
            else:
                return
