"""A cloud of real hosts that can be lost: switched off, frozen, cut off; with a power program that can be out of order."""

from __future__ import annotations

import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from garbi.base.errors import GarbiError
from garbi.base.token import read_secret
from garbi.hyper_api.client import HyperClient
from garbi.iaas_api.client import IaasClient

from .conftest import at_once
from .controllers import Cloud, add_node
from .hosts import Host, Lab, wait_until

PORT, PAGE = 8081, 18080
DATA = f"/var/lib/garbi/node-{PORT}"
UNIT = f"garbi-hyper@{PORT}"
CUT = "iptables -{verb} INPUT -i eth0 -j DROP; iptables -{verb} OUTPUT -o eth0 -j DROP"
POWER = """\
#!{python} -I
import pathlib, subprocess, sys
verb, node = sys.argv[1:3]
container = {containers}[node]
if not pathlib.Path({works!r}).exists():
    sys.exit("the power controller of " + node + " does not answer")
if verb == "off":
    subprocess.run(["docker", "kill", container], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
ask = ["docker", "inspect", "-f", "{{{{.State.Running}}}}", container]
print("on" if subprocess.check_output(ask, text=True).strip() == "true" else "off")
"""


class LossyCloud:
    """A controller and its hosts n1, n2, …; `power` tells whether the power program works. Close it, then the lab."""

    def __init__(self, lab: Lab, hosts: Sequence[Host], image: Path, directory: Path, **settings: object) -> None:
        self.hosts = {f"n{number}": host for number, host in enumerate(hosts, 1)}
        self._works = directory / "power-works"
        self.cloud = Cloud(directory, power_command=self._program(directory), **settings)
        try:
            self.cloud("img", "add", "tiny", str(image), "--type", "docker")
            at_once(*[partial(add_node, self.cloud, lab, name, host) for name, host in self.hosts.items()])
        except BaseException:
            self.close()
            raise

    @property
    def power(self) -> bool:
        return self._works.exists()

    @power.setter
    def power(self, works: bool) -> None:
        self._works.touch() if works else self._works.unlink(missing_ok=True)

    def client(self) -> IaasClient:
        """A client of the controller."""
        return IaasClient(self.cloud.url, token=read_secret(self.cloud.data_dir / "token"))

    def agent(self, name: str) -> HyperClient:
        """A client of a node's hyper."""
        host = self.hosts[name]
        return HyperClient(f"http://{host.address}:{PORT}", token=host.run(f"cat {DATA}/token").strip())

    def node(self, name: str) -> dict[str, Any]:
        return next(node for node in self.client().nodes.list() if node["name"] == name)

    def machine(self, name: str) -> dict[str, Any]:
        return self.client().machines.get(name)

    def add(self, name: str, node: str, policy: str, port: int | None = None) -> dict[str, Any]:
        """Run a container on a node; its page is at `port` of the host."""
        ports = [] if port is None else [{"node_port": port, "machine_port": 80, "protocol": "tcp"}]
        spec = {"image": "tiny", "id": name, "node": node, "mem": 32, "on_node_failure": policy, "ports": ports}
        machine = self.client().machines.add(spec, wait_s=60)
        assert machine["state"] == "running", machine
        return machine

    def wait(self, condition: Callable[[], bool]) -> None:
        """Wait for a state of the cloud; fails with what the controller says of it."""

        def holds() -> bool:
            with suppress(GarbiError, OSError):
                return condition()
            return False

        try:
            wait_until(holds)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self._told()}") from None

    def wait_for_node(self, name: str, state: str) -> None:
        """Wait until a node is in that state."""
        self.wait(lambda: self.node(name)["state"] == state)

    def answers(self, name: str, nodes: Sequence[str], port: int) -> bool:
        """Whether the page of a machine is at that port of one of the nodes."""
        return any(f"Hello from {name}" in page(self.hosts[node].address, port) for node in nodes)

    def all_ready(self) -> None:
        """Wait until every node takes machines and has an armed lease, and the controller has that from it, as a proof needs."""
        self.wait(lambda: all(node["state"] == "ready" for node in self.client().nodes.list()))
        self.wait(self._armed)
        self.wait(lambda: all(map(self._provable, self.hosts)))

    def close(self) -> None:
        """End the controller."""
        with suppress(Exception):
            self.cloud.close()

    def _armed(self) -> bool:
        """Whether the lease of every node ends by itself."""
        return all(any(lease["armed"] for lease in self.agent(name).leases.list()) for name in self.hosts)

    def _provable(self, name: str) -> bool:
        """Whether the lease would prove a node dead that fell silent now."""
        foreseen = self.client().nodes.what_if(name)
        return any(each["fence"] == "lease" and each["applies"] for each in foreseen["fences"])

    def _told(self) -> str:
        """What the controller says of nodes and machines, and the end of its log."""
        client = self.client()
        nodes = [f"{node['name']}: {node['state']}: {node['reason']}" for node in client.nodes.list()]
        machines = [
            f"{each['id']} on {each['node']}: {each['state']}: {each['reason']}" for each in client.machines.list()
        ]
        return "\n".join([*nodes, *machines, self.cloud.log.read_text(errors="replace")[-4000:]])

    def _program(self, directory: Path) -> Path:
        program = directory / "power"
        containers = {name: host.name for name, host in self.hosts.items()}
        program.write_text(POWER.format(python=sys.executable, containers=containers, works=str(self._works)))
        program.chmod(0o700)
        return program


def container_id(host: Host) -> str:
    """The id of the container that a host is."""
    ask = ["docker", "inspect", "-f", "{{.Id}}", host.name]
    return subprocess.run(ask, check=True, capture_output=True, text=True).stdout.strip()


def page(address: str, port: int) -> str:
    """The page there; empty where none answers soon."""
    with suppress(OSError), urllib.request.urlopen(f"http://{address}:{port}/", timeout=1) as answer:
        return str(answer.read().decode())
    return ""


@contextmanager
def frozen(host: Host) -> Iterator[None]:
    """A host does nothing while the block runs, and goes on afterwards."""
    subprocess.run(["docker", "pause", host.name], check=True, stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        subprocess.run(["docker", "unpause", host.name], check=False, capture_output=True)


@contextmanager
def cut_off(host: Host) -> Iterator[None]:
    """A host hears nobody and is heard by nobody while the block runs."""
    host.run(CUT.format(verb="I"))
    try:
        yield
    finally:
        host.run(CUT.format(verb="D"))
