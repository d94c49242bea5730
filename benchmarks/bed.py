"""What is measured on: an agent of its own, with its own data directory and port, and the tiny images."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from garbi.base.errors import ServerUnreachable
from garbi.base.token import TOKEN_FILE, read_secret
from garbi.hyper_api.client import HyperClient

BIN = Path(sys.executable).parent
PATIENCE_S = 120.0
LOG = "serve.log"


class Bed:
    """A running `hyper serve`; everything it made is gone when the context ends."""

    def __init__(self, settings: Mapping[str, str] | None = None) -> None:
        """Start an agent, with these variables of its environment beside those that there are."""
        self.data_dir = Path(tempfile.mkdtemp(prefix="garbi-bench-", dir="/var/tmp"))
        self.data_dir.chmod(0o711)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._token_file = self.data_dir / TOKEN_FILE
        identity = {"GARBI_HYPER_URL": self.url, "GARBI_HYPER_TOKEN_FILE": str(self._token_file)}
        self.environment = {**os.environ, **identity, **(settings or {})}
        self._log = (self.data_dir / LOG).open("ab")
        self.process = self._serve()

    def __enter__(self) -> Bed:
        try:
            self._wait_for_answers()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self.process.poll() is None:
                ids = self.hyper("list", "-q").split()
                if ids:
                    self.hyper("rm", *ids)
        finally:
            self.process.terminate()
            self.process.wait()
            self._log.close()
            if self._token_file.exists():
                self.hyper("purge", "--yes", "--data-dir", str(self.data_dir))
            else:  # it came to nothing
                shutil.rmtree(self.data_dir)

    def kill(self) -> None:
        """Kill the agent, as nothing is killed that could prepare for it."""
        self.process.kill()
        self.process.wait()

    def serve_again(self) -> None:
        """Start an agent in the place of the one that was killed."""
        self.process = self._serve()

    @property
    def cluster(self) -> str:
        """The first eight digits of the agent's cluster id: all that it makes is named by them."""
        return str(self.client().host()["cluster_id"])[:8]

    def hyper(self, *arguments: str) -> str:
        """Run a command line of ours; what it printed."""
        return run([str(BIN / "hyper"), *arguments], self.environment)

    def client(self) -> HyperClient:
        """A client with connections of its own."""
        return HyperClient(self.url, token=self.token)

    @property
    def token(self) -> str:
        """What the agent knows its owner by."""
        return read_secret(self._token_file)

    def resident_mib(self) -> float:
        """The resident memory of the agent."""
        return resident_mib(self.process.pid)

    def _serve(self) -> subprocess.Popen[bytes]:
        command = [str(BIN / "hyper"), "serve", "--port", str(self.port), "--data-dir", str(self.data_dir)]
        return subprocess.Popen(command, stdout=self._log, stderr=self._log, env=self.environment)

    def _wait_for_answers(self) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                self.client().health()
            except (OSError, ServerUnreachable):
                if self.process.poll() is not None:
                    words = (self.data_dir / LOG).read_text(encoding="utf-8", errors="replace")
                    raise RuntimeError(f"the agent ended: {words[-2000:]}") from None
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
            else:
                return


def resident_mib(pid: int) -> float:
    """The resident memory of a process."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) / 1024


def run(command: list[str], environment: dict[str, str] | None = None) -> str:
    """Run a command that must succeed; what it printed."""
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def free_port() -> int:
    """A port that nobody has at this moment."""
    with socket.socket() as probe:
        probe.bind(("0.0.0.0", 0))
        return int(probe.getsockname()[1])


def wait_for_page(url: str) -> str:
    """Fetch a page as soon as it answers."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:
                return str(answer.read().decode())
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
