"""A controller for the tests of real hosts: a process of its own, spoken to by its command line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from tests.free_ports import free_port

from .hosts import Host, Lab, wait_until

IAAS = Path(sys.executable).parent / "iaas"
COMMAND_S = 900


class Cloud:
    """A controller as a process of its own, and its command line."""

    def __init__(self, directory: Path, **settings: object) -> None:
        """`settings` are those of the controller, as check_period_s=1."""
        self.port = free_port()
        self.log = directory / "log"
        self.data_dir = directory / "iaas"
        self.url = f"http://127.0.0.1:{self.port}"
        given = {f"GARBI_IAAS_{name.upper()}": str(value) for name, value in settings.items()}
        told = {"GARBI_IAAS_URL": self.url, "GARBI_IAAS_TOKEN_FILE": str(self.data_dir / "token")}
        self.environment = os.environ | told | given
        self.start()

    def start(self) -> None:
        """Start the controller, and wait until it answers."""
        with self.log.open("ab") as log:
            command = [IAAS, "serve", "--port", str(self.port), "--data-dir", self.data_dir]
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=self.environment)
        wait_until(lambda: self.process.poll() is not None or self.done("node", "ls").returncode == 0)
        assert self.process.poll() is None, self.log.read_text(errors="replace")[-2000:]

    def kill(self) -> None:
        """End it as the kernel does when memory runs out."""
        self.process.kill()
        self.process.wait(120)

    def done(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A command, however it ended."""
        return subprocess.run(
            [IAAS, *words], env=self.environment, capture_output=True, text=True, timeout=COMMAND_S, check=False
        )

    def __call__(self, *words: str) -> str:
        """A command that must end well; what it printed."""
        done = self.done(*words)
        assert done.returncode == 0, f"iaas {' '.join(words)}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def machines(self, **filters: str) -> dict[str, dict[str, Any]]:
        """The machines by id."""
        listed = yaml.safe_load(self("vm", "ls", *(f"{key}={value}" for key, value in filters.items()), "-o", "json"))
        return {machine["id"]: machine for machine in listed}

    def close(self) -> None:
        """End the controller."""
        self.process.terminate()
        self.process.wait(120)


def add_node(cloud: Cloud, lab: Lab, name: str, host: Host) -> str:
    return cloud(
        "node", "add", name, f"{host.address}:8081", "--ssh-key", str(lab.key), "--ssh-host-key", host.host_key
    )
