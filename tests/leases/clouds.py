"""Clouds of processes on this host: agents and watchdogs with fake machines, and a controller as on another host beside them."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.databases import put_controller_database
from tests.free_ports import free_port
from tests.leases.processes import LIMIT_S, TTL_S, Processes
from tests.leases.words import eventually
from tests.run_dir import RUN_DIR

from garbi.base.errors import GarbiError
from garbi.hyper.drivers.fake import FakeWorld
from garbi.iaas_api.client import IaasClient

SETTINGS = {"CHECK_PERIOD_S": "1", "UNREACHABLE_AFTER_S": "4", "LEASE_TTL_S": f"{TTL_S:g}", "AUDIT_PERIOD_S": "0"}
HOME = "tests.leases.other_home"
FAKE = {"GARBI_DRIVER_FAKE_PERSIST": "true", "GARBI_MEM_LIMIT_MIB": "4096"}


class HostProcesses:
    """A host: its agent, its watchdog, and what runs on it."""

    def __init__(self, root: Path, name: str) -> None:
        self.name, self.data_dir, self.port = name, root / name, free_port()
        (self.data_dir / "drivers" / "fake").mkdir(parents=True)
        self.world = FakeWorld.at(self.data_dir / "drivers" / "fake")
        """The daemon of its machines, which goes on whatever becomes of the agent."""
        self.running = Processes(self.data_dir, FAKE)
        self.agent = self._serve()
        self.running.url = f"http://127.0.0.1:{self.port}"
        eventually(f"{name} answers", self._answers)
        self.watchdog = self.running.watch()

    @property
    def token(self) -> str:
        return (self.data_dir / "token").read_text().strip()

    def machines(self) -> list[str]:
        """What runs there, whatever anybody says."""
        return sorted(each.id for each in self.world.machines() if each.powered and each.cluster_id)

    def lease(self) -> dict[str, Any]:
        """The lease that its controller has there."""
        found: list[dict[str, Any]] = self.running.client().leases.list()
        return found[0] if found else {}

    def close(self) -> None:
        self.running.end()

    def _serve(self) -> subprocess.Popen[str]:
        return self.running.start("serve", "--port", str(self.port))

    def _answers(self) -> bool:
        try:
            self.running.client().health()
        except (GarbiError, OSError):
            return False
        return True


@dataclass
class ProcessCloud:
    """Hosts and a controller. `settings` are variables of the controller, without their prefix."""

    root: Path
    hosts: dict[str, HostProcesses]
    settings: dict[str, str] = field(default_factory=lambda: dict(SETTINGS))
    port: int = field(default_factory=free_port)
    controller: subprocess.Popen[bytes] | None = None
    twice: list[str] = field(default_factory=list)

    @property
    def client(self) -> IaasClient:
        return IaasClient(f"http://127.0.0.1:{self.port}", token=(self.root / "iaas" / "token").read_text().strip())

    def start_controller(self) -> None:
        """Start it and wait until it leads."""
        put_controller_database(self.root / "iaas")
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("GARBI_") or name == RUN_DIR
        }
        environment |= {f"GARBI_IAAS_{name}": value for name, value in self.settings.items()}
        with (self.root / "iaas.log").open("ab") as log:
            self.controller = subprocess.Popen(
                [sys.executable, "-m", HOME, "serve", "--port", str(self.port), "--data-dir", self.root / "iaas"],
                env=environment,
                stdout=log,
                stderr=log,
            )
        eventually("the controller leads", self._leads)

    def join(self) -> None:
        """Make every host a node, and wait until their leases end by themselves."""
        for host in self.hosts.values():
            address = f"127.0.0.1:{host.port}"
            spec = {"name": host.name, "address": address, "provision": False, "token": host.token}
            self.client.nodes.add(spec)
        for name in self.hosts:
            self.node_is(name, "ready")

    def armed(self, *names: str) -> None:
        """Wait until the leases of these hosts, or of all, end by themselves, and the controller has it from them twice."""
        for name in names or tuple(self.hosts):
            eventually(f"{name} is armed", lambda name=name: self._is_renewed(name))
        moment = threading.Event()
        moment.wait(2.5 * float(self.settings["CHECK_PERIOD_S"]))  # it is said once more with each check

    def add(self, machine_id: str, node: str, policy: str = "recreate") -> None:
        """A machine that runs."""
        spec = {"image": "any", "type": "fake", "mem": 16, "id": machine_id, "node": node, "on_node_failure": policy}
        self.client.machines.add(spec)
        eventually(f"{machine_id} runs", lambda: machine_id in self.hosts[node].machines())

    def node_is(self, name: str, state: str) -> None:
        eventually(f"{name} is {state}", lambda: self.client.nodes.get(name)["state"] == state)

    def looks(self, done: threading.Event) -> None:
        """Look at every host all the time, and note what runs twice."""
        while not done.wait(0.1):
            found = [(machine, host.name) for host in self.hosts.values() for machine in host.machines()]
            names = [machine for machine, _ in found]
            self.twice += [str(found) for machine in names if names.count(machine) > 1]

    def _is_renewed(self, name: str) -> bool:
        """Whether a lease ends by itself, and has not begun to: who was just cut off is renewed twice before it has a new end."""
        lease = self.hosts[name].lease()
        return bool(lease.get("armed")) and (lease["expires_in_s"] or 0.0) > 0

    def _leads(self) -> bool:
        assert self.controller is not None
        assert self.controller.poll() is None, (self.root / "iaas.log").read_text()[-4000:]
        try:
            return bool(self.client.health()["leads"])
        except (OSError, GarbiError):
            return False


class NeverOff:
    """See that machines run where they are, for as long as the block runs."""

    def __init__(self, cloud: ProcessCloud, *places: tuple[str, str]) -> None:
        self._cloud, self._places = cloud, places
        self._done, self._off = threading.Event(), list[str]()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        assert self._off == []

    def _look(self) -> None:
        while not self._done.wait(0.1):
            self._off += [each for each, name in self._places if each not in self._cloud.hosts[name].machines()]


@contextmanager
def cloud_of(root: Path, *names: str, **settings: str) -> Iterator[ProcessCloud]:
    """A cloud of these nodes for as long as the block runs; nothing may ever run twice in it."""
    hosts = _hosts(root, names)
    cloud = ProcessCloud(root, {host.name: host for host in hosts}, {**SETTINGS, **settings})
    done = threading.Event()
    looking = threading.Thread(target=cloud.looks, args=(done,))
    looking.start()
    try:
        cloud.start_controller()
        cloud.join()
        yield cloud
    finally:
        done.set()
        looking.join()
        if cloud.controller is not None:
            cloud.controller.kill()
            cloud.controller.wait(LIMIT_S)
        for host in hosts:
            host.close()
    assert cloud.twice == []


def _hosts(root: Path, names: Sequence[str]) -> list[HostProcesses]:
    with ThreadPoolExecutor(len(names)) as pool:
        return list(pool.map(lambda name: HostProcesses(root, name), names))
