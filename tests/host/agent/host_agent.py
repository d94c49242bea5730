"""One agent on the real daemons of this host, with images for both types, and what a user sees of its machines."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any

from tests.free_ports import free_port

from garbi.hyper.agent.agent import Agent
from garbi.hyper.images.tiny.archives import docker_archive, initramfs
from garbi.hyper.images.tiny.disk import make_disk
from garbi.hyper.images.tiny.kernel import find_kernel
from garbi.hyper.images.tiny.tools import find_busybox
from garbi.hyper.images.tiny.tree import Entry, build_tree
from garbi.hyper.main import open_agent
from garbi.hyper.model.image import ImageType
from garbi.hyper.model.machine import Machine, MachineSpec, Protocol, PublishedPort, State, Wish
from garbi.hyper.purge import purge
from garbi.hyper.settings import Settings

PATIENCE_S = 90.0
NEVER_S = 3600.0
"""The period of full looks in these tests: what is seen, is seen from events."""

VM, CONTAINER = "vm", "container"
KINDS = (VM, CONTAINER)
TYPES = {VM: "libvirt", CONTAINER: "docker"}

_FETCH = """\
#!/bin/sh
printf 'Content-Type: text/plain\\r\\n\\r\\n'
printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 5 "${QUERY_STRING%%:*}" "${QUERY_STRING##*:}" 2>&1
"""

_BIND = """
import socket, sys
protocol, family, address, port = sys.argv[1:5]
taker = socket.socket(getattr(socket, family), socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM)
if protocol == "tcp": taker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
try:
    taker.bind((address, int(port)))
    if protocol == "tcp": taker.listen()
    print("taken", flush=True)
except OSError as error:
    print(error.strerror, flush=True)
    sys.exit()
sys.stdin.read()
"""

_pause = Event()


@dataclass(frozen=True)
class TinyImages:
    """The tiny images, their machines with one page more: `/cgi-bin/fetch?HOST:PORT` says what the machine sees there."""

    vm: Path
    container: Path


def build_images(directory: Path) -> TinyImages:
    """Made as `build_tiny` makes them, of the same parts."""
    tree = {**build_tree(find_busybox()), "www/cgi-bin/fetch": Entry(0o755, _FETCH.encode())}
    kernel = find_kernel(Path.home() / ".cache/garbi")
    container = directory / "container.tar"
    container.write_bytes(docker_archive(tree, "amd64"))
    modules = {f"lib/modules/{name}": Entry(0o644, content) for name, content in kernel.modules}
    order = "".join(f"{name}\n" for name, _ in kernel.modules).encode()
    guest = {**tree, **modules, "lib/modules/order": Entry(0o644, order)}
    return TinyImages(make_disk(directory, kernel.image, initramfs(guest)), container)


class Verbs:
    """What a user does, each time waiting for the result."""

    agent: Agent

    def add(self, machine_id: str, kind: str, *ports: PublishedPort, **fields: Any) -> Machine:
        spec = MachineSpec(**{"image": kind, "id": machine_id, "mem": 128, "ports": ports, **fields})
        return self.settled(self.agent.machines.add(spec).id)

    def run(self, machine_id: str, kind: str, *ports: PublishedPort, **fields: Any) -> Machine:
        machine = self.add(machine_id, kind, *ports, **fields)
        assert (machine.state, machine.reason) == (State.RUNNING, ""), machine
        return machine

    def wish(self, machine_id: str, wish: Wish) -> Machine:
        self.agent.machines.wish(machine_id, wish)
        return self.settled(machine_id)

    def remove(self, machine_id: str) -> None:
        self.agent.machines.remove(machine_id)
        left = self.agent.machines.wait_settled(machine_id, PATIENCE_S)
        assert left is None, left

    def settled(self, machine_id: str) -> Machine:
        machine = self.agent.machines.wait_settled(machine_id, PATIENCE_S)
        assert machine is not None
        assert machine.settled, machine
        return machine

    def state(self, machine_id: str) -> State:
        return self.agent.machines.get(machine_id).state

    def await_state(self, machine_id: str, state: State, within_s: float = PATIENCE_S) -> Machine:
        """Wait, woken by events alone, until the machine is in `state`."""
        end = time.monotonic() + within_s
        with self.agent.events.signal_of(machine_id) as changed:
            while (machine := self.agent.machines.get(machine_id)).state is not state:
                assert changed.wait(max(end - time.monotonic(), 0)), (
                    f"not {state} within {within_s} s: {machine.state}, {machine.reason}"
                )
                changed.clear()
        return machine


@dataclass
class HostAgent(Verbs):
    """An agent with a data directory of its own; `discard` takes away all that it made."""

    images: TinyImages
    data_dir: Path
    drivers: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    limits: Mapping[str, Any] = field(default_factory=dict)
    _open: Agent | None = None
    cluster_id: str = ""

    @property
    def settings(self) -> Settings:
        defaults = {"resync_period_s": NEVER_S, "stop_deadline_s": 15.0}
        return Settings(data_dir=self.data_dir, drivers=self.drivers, **{**defaults, **self.limits})

    @property
    def agent(self) -> Agent:  # type: ignore[override]
        """The agent, opened when it is first asked for."""
        if self._open is None:
            self._open = open_agent(self.settings)
            self.cluster_id = self._open.cluster_id
        return self._open

    def take_images(self) -> None:
        """Add both images, called after the kinds of machines that are made of them."""
        self.agent.images.add(VM, ImageType.QCOW2, [self.images.vm.read_bytes()])
        self.agent.images.add(CONTAINER, ImageType.DOCKER, [self.images.container.read_bytes()])

    def close(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None

    def discard(self) -> None:
        """Close the agent and take it off the host; fail when anything of it is left."""
        self.close()
        purge(self.settings, lambda _: None)
        left = traces_of(self.cluster_id)
        assert not left, left

    # What the daemons call it

    def daemon_name(self, machine_id: str) -> str:
        """Of the container or domain."""
        return f"garbi-{self.cluster_id[:8]}-{machine_id}"

    def pid(self, machine_id: str, kind: str, libvirt_run: Path = Path("/run/libvirt")) -> int:
        """The process of a running machine: QEMU, or the first of the container."""
        name = self.daemon_name(machine_id)
        if kind == VM:
            return int((libvirt_run / f"qemu/{name}.pid").read_text())
        host = self.drivers.get("docker", {}).get("host", "unix:///var/run/docker.sock")
        return int(output("docker", "-H", host, "inspect", "-f", "{{.State.Pid}}", name))

    def disk(self, machine_id: str) -> Path:
        return self.data_dir / "drivers/libvirt/pool" / f"{machine_id}.qcow2"


@contextlib.contextmanager
def host_agent(images: TinyImages, data_dir: Path | None = None, **options: Any) -> Iterator[HostAgent]:
    """An agent that has both images; afterwards nothing of it is left on the host, which is checked."""
    place = data_dir or open_directory()
    made = HostAgent(images, place / "data", **options)
    try:
        made.take_images()
        yield made
    except BaseException:
        with contextlib.suppress(Exception):  # the first failure is the one to tell
            made.discard()
        raise
    else:
        made.discard()
    finally:
        if data_dir is None:
            shutil.rmtree(place, ignore_errors=True)


def open_directory() -> Path:
    """A directory that QEMU's user may pass through; pytest's own are closed to it."""
    path = Path(tempfile.mkdtemp(prefix="garbi-agent-", dir="/var/tmp"))
    path.chmod(0o711)
    return path


def ports(*machine_ports: int, protocol: Protocol = Protocol.TCP) -> tuple[PublishedPort, ...]:
    """Publish these ports of a machine at free ports of the host."""
    return tuple(PublishedPort(free_port(), port, protocol) for port in machine_ports)


def page_and_echo() -> tuple[PublishedPort, PublishedPort]:
    """Publish the page (TCP 80) and the echo (UDP 7) at free ports of the host."""
    return ports(80)[0], ports(7, protocol=Protocol.UDP)[0]


# What users of the machines see


def page(port: int | PublishedPort, path: str = "/", address: str = "127.0.0.1", timeout_s: float = 30.0) -> str:
    """The page at a port of the host; empty while nobody answers."""
    number = port.node_port if isinstance(port, PublishedPort) else port
    connection = http.client.HTTPConnection(address, number, timeout=timeout_s)
    try:
        connection.request("GET", path)
        return connection.getresponse().read().decode()
    except (OSError, http.client.HTTPException):
        return ""
    finally:
        connection.close()


def facts(port: int | PublishedPort, address: str = "127.0.0.1", timeout_s: float = 30.0) -> dict[str, str]:
    """What the machine behind a port says of itself; empty while it does not answer."""
    said = page(port, "/cgi-bin/info", address, timeout_s)
    return dict(line.split(" ", 1) for line in said.splitlines() if " " in line)


def facts_when_up(port: int | PublishedPort) -> dict[str, str]:
    """The same, as soon as it answers."""
    found: dict[str, str] = {}
    eventually(
        "the page answers", lambda: found.update(facts(port, timeout_s=3)) or found
    )  # it is lost on a booting guest
    return found


def echo(port: PublishedPort, address: str = "127.0.0.1", said: bytes = b"hello") -> bytes:
    """What the echo answers to a datagram; empty when nothing comes back."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(2)
        client.connect((address, port.node_port))
        try:
            client.send(said)
            return client.recv(2000)
        except OSError:
            return b""


@contextlib.contextmanager
def other_process(protocol: str, port: int, address: str = "0.0.0.0") -> Iterator[tuple[int, str]]:
    """A process that takes a port, or tries to; gives its pid and what came of it."""
    family = "AF_INET6" if ":" in address else "AF_INET"
    words = [sys.executable, "-c", _BIND, protocol, family, address, str(port)]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.pid, process.stdout.readline().strip()
    finally:
        process.kill()
        process.communicate()


def eventually(what: str, check: Callable[[], object], within_s: float = PATIENCE_S) -> None:
    """Wait until `check` is true."""
    end = time.monotonic() + within_s
    while not check():
        assert time.monotonic() < end, f"{what}: not within {within_s} s"
        _pause.wait(0.05)


def output(*command: str) -> str:
    """What a command prints; fails with its words when it fails."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout.strip()


def incarnation(pid: int) -> str:
    """What tells a process from a later one of the same pid."""
    return f"{pid} {Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[19]}"


LISTINGS = (
    ("docker", "ps", "-a", "--no-trunc", "--format", "container {{.Names}} {{.Labels}}"),
    ("docker", "images", "--format", "image {{.Repository}}:{{.Tag}}"),
    ("docker", "volume", "ls", "--format", "volume {{.Name}}"),
    ("virsh", "-c", "qemu:///system", "list", "--all", "--name"),
    ("virsh", "-c", "qemu:///system", "net-list", "--all", "--name"),
    ("virsh", "-c", "qemu:///system", "pool-list", "--all", "--name"),
    ("ip", "-oneline", "link"),
    ("nft", "list", "tables"),
    ("iptables-save",),
)
TRACES = ("/etc/libvirt", "/run/libvirt/qemu", "/var/lib/libvirt", "/var/log/libvirt")
"""Not /run/libvirt/network: libvirt itself leaves there what says which process each of its networks had."""
LEASES = ".status"
"""How files end in which libvirt keeps the leases of a network, and which it may write once more when that is gone."""


def traces_of(cluster_id: str) -> list[str]:
    """Everything on this host that carries the first digits of a cluster id: machines, networks, rules, files, processes."""
    mark = cluster_id[:8]
    found = [f"{listing[0]}: {line}" for listing in LISTINGS for line in output(*listing).splitlines() if mark in line]
    for top in TRACES:
        for directory, folders, files in os.walk(top):
            found += [f"file {directory}/{name}" for name in (*folders, *files) if _is_trace(name, mark)]
    return found + [f"process {line}" for line in output("ps", "-eo", "pid=,args=").splitlines() if mark in line]


def _is_trace(name: str, mark: str) -> bool:
    return mark in name and not name.endswith(LEASES)
