"""Real controllers, each a process of its own: started, frozen, killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.free_ports import free_port
from tests.iaas.clouds import LIMIT_S, eventually
from tests.run_dir import RUN_DIR

from garbi.base.errors import GarbiError
from garbi.iaas_api.client import IaasClient


class ControllerProcess:
    """`iaas serve` with a data directory of its own; `settings` are variables without their prefix."""

    def __init__(self, data_dir: Path, database: str, crash_at: str = "", **settings: str) -> None:
        self.data_dir = data_dir
        self.port = free_port()
        self._log = data_dir.with_suffix(".log")
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("GARBI_") or name == RUN_DIR
        }
        environment |= {
            "GARBI_IAAS_CHECK_PERIOD_S": "0.5",
            "GARBI_IAAS_UNREACHABLE_AFTER_S": "5",
            "GARBI_IAAS_AUDIT_PERIOD_S": "0",
            **{f"GARBI_IAAS_{name.upper()}": value for name, value in settings.items()},
        }
        if crash_at:
            environment["GARBI_CRASH_AT"] = crash_at
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "garbi.iaas.cli", "serve"),
                    *("--port", str(self.port), "--data-dir", str(data_dir)),
                    *(("--database", database) if database else ()),
                ],
                env=environment,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )

    @property
    def client(self) -> IaasClient:
        """Who speaks to it with the token in its directory."""
        return IaasClient(f"http://127.0.0.1:{self.port}", token=(self.data_dir / "token").read_text().strip())

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    @property
    def code(self) -> int | None:
        """How it ended, if it has."""
        return self._process.poll()

    def words(self) -> str:
        """What it has printed."""
        return self._log.read_text()

    def leads(self) -> bool | None:
        """What it says of itself; None when it does not answer."""
        try:
            return bool(self.client.health()["leads"])
        except (OSError, GarbiError):
            return None

    def answers(self) -> None:
        """Wait until it answers."""
        eventually("it answers", lambda: self.leads() is not None or self.code is not None, self.words)
        assert self.code is None, self.words()

    def freeze(self) -> None:
        """Let it do nothing, as if its host had stopped."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on as if nothing had been."""
        self._process.send_signal(signal.SIGCONT)

    def wait(self) -> int:
        """Wait for its end."""
        return self._process.wait(LIMIT_S)

    def kill(self) -> None:
        """End it in the middle of everything."""
        self._process.kill()
        self._process.wait(LIMIT_S)

    def end(self) -> None:
        """End it, as it would end itself."""
        if self.code is None:
            self.thaw()
            self._process.terminate()
            try:
                self._process.wait(LIMIT_S)
            except subprocess.TimeoutExpired:
                self.kill()
