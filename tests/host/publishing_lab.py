"""Guests and another host without any hypervisor: network namespaces, with servers and clients in them, all really there.

`front` is a network between this host and a neighbour; each guest network is a bridge of this host with guests behind it.
"""

from __future__ import annotations

import random
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.free_ports import free_port

from garbi.hyper.drivers.protocol import GuestNetwork

SERVER = """
import socket, sys
protocol, address, port, name = sys.argv[1:5]
kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
server = socket.socket(socket.AF_INET, kind)
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.bind((address, int(port)))
if protocol == "tcp": server.listen()
print(server.getsockname()[1], flush=True)
while True:
    if protocol == "tcp":
        peer, sender = server.accept()
        peer.sendall(f"{name} {sender[0]}".encode())
        peer.close()
    else:
        _, sender = server.recvfrom(2000)
        server.sendto(f"{name} {sender[0]}".encode(), sender)
"""

CLIENT = """
import socket, sys
protocol, address, port, timeout, source, count = sys.argv[1:7]
client = socket.socket(socket.AF_INET, socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM)
client.settimeout(float(timeout))
if source: client.bind((source, 0))
for turn in range(int(count)):
    if turn: sys.stdin.readline()
    try:
        if protocol == "udp" or not turn: client.connect((address, int(port)))
        if protocol == "udp": client.send(b"hello")
        print(client.recv(2000).decode() or "closed", flush=True)
    except OSError as error:
        print("nothing:", error, flush=True)
"""


@dataclass(frozen=True)
class Space:
    """A network namespace, or this host's own when `name` is empty."""

    name: str = ""
    address: str = ""

    def command(self, *words: str) -> list[str]:
        return ["ip", "netns", "exec", self.name, *words] if self.name else list(words)

    def run(self, *words: str) -> str:
        return subprocess.run(self.command(*words), check=True, capture_output=True, text=True, timeout=120).stdout

    def ask(self, protocol: str, address: str, port: int, timeout: float = 30.0, source: str = "") -> str:
        """Send one question; the answer is the server's name and the address it saw, or begins with 'nothing'."""
        words = (sys.executable, "-c", CLIENT, protocol, address, str(port), str(timeout), source, "1")
        return self.run(*words).strip()


@dataclass
class Lab:
    """What the tests are given. Everything made through it is gone when the test ends."""

    stack: ExitStack
    name: str = field(default_factory=lambda: f"gl{secrets.token_hex(2)}")
    host: Space = field(default_factory=Space)

    def network(self, letter: str, guests: int = 1, bridge: str = "") -> tuple[GuestNetwork, list[Space]]:
        """A bridge with an address of this host, and guests that have the host as their router."""
        prefix = f"10.{random.randint(130, 250)}.{random.randint(0, 255)}"
        bridge = bridge or f"{self.name}{letter}"
        self._link(bridge, "type", "bridge")
        self._address(bridge, f"{prefix}.1/24")
        spaces = [
            self._space(f"{self.name}{letter}{number}", f"{prefix}.{number + 2}", bridge) for number in range(guests)
        ]
        return GuestNetwork(bridge, IPv4Network(f"{prefix}.0/24"), f"{prefix}.1"), spaces

    def neighbour(self) -> tuple[Space, str]:
        """Another host, and the address by which it knows this one."""
        prefix = f"10.{random.randint(130, 250)}.{random.randint(0, 255)}"
        space = self._space(f"{self.name}n0", f"{prefix}.2", None, gateway=f"{prefix}.1")
        return space, f"{prefix}.1"

    def serve(self, space: Space, protocol: str, name: str, address: str = "0.0.0.0", port: int = 0) -> int:
        """Start a server in a namespace; it answers with its name. Return its port."""
        words = space.command(sys.executable, "-c", SERVER, protocol, address, str(port), name)
        process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        self.stack.callback(_end, process)
        assert process.stdout is not None
        return int(process.stdout.readline())

    def converse(self, space: Space, protocol: str, address: str, port: int, turns: int) -> Iterator[str]:
        """Ask `turns` times from one socket, each time when the next answer is wanted."""
        words = (sys.executable, "-c", CLIENT, protocol, address, str(port), "2", "", str(turns))
        process = subprocess.Popen(space.command(*words), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.stack.callback(_end, process)
        assert process.stdin is not None
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        for _ in range(turns - 1):
            process.stdin.write("\n")
            process.stdin.flush()
            yield process.stdout.readline().strip()

    def free_port(self) -> int:
        """A port that nobody has."""
        return free_port()

    def _space(self, name: str, address: str, bridge: str | None, gateway: str | None = None) -> Space:
        ip("netns", "add", name)
        self.stack.callback(ip, "netns", "del", name)
        outer = f"{name}h"
        self._link(outer, "type", "veth", "peer", "name", "eth0", "netns", name)
        if bridge:
            ip("link", "set", outer, "master", bridge)
            ip("link", "set", outer, "up")
        else:
            self._address(outer, f"{gateway}/24")
        space = Space(name, address)
        space.run("ip", "link", "set", "lo", "up")
        space.run("ip", "link", "set", "eth0", "up")
        space.run("ip", "address", "add", f"{address}/24", "dev", "eth0")
        router = gateway or address.rsplit(".", 1)[0] + ".1"
        space.run("ip", "route", "add", "default", "via", router)
        return space

    def _link(self, name: str, *words: str) -> None:
        ip("link", "add", name, *words)
        self.stack.callback(ip, "link", "del", name)
        ip("link", "set", name, "up")

    def _address(self, name: str, address: str) -> None:
        ip("address", "add", address, "dev", name)


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, timeout=120)


def send_loopback_out(space: Space, router: str) -> None:
    """Make a namespace send what is for 127.0.0.1 to its router, as an attacker would."""
    space.run("ip", "address", "flush", "dev", "lo")
    space.run("ip", "route", "add", "127.0.0.1/32", "via", router, "dev", "eth0")
    space.run("sh", "-c", "echo 1 > /proc/sys/net/ipv4/conf/eth0/route_localnet")


@contextmanager
def open_lab() -> Iterator[Lab]:
    with ExitStack() as stack:
        yield Lab(stack)


@contextmanager
def engine_in(space: Space, *options: str) -> Iterator[Path]:
    """A Docker Engine of the test's own in a namespace; gives the path of its socket."""
    with TemporaryDirectory(prefix="garbi-lab-", ignore_cleanup_errors=True) as directory:
        place = Path(directory)
        # Not by `ip netns exec`, which hides the control groups that dockerd needs.
        words = ["nsenter", f"--net=/run/netns/{space.name}", "--", "dockerd", "-H", f"unix://{place}/docker.sock"]
        words += ["--data-root", f"{place}/data", "--exec-root", f"{place}/exec", "--pidfile", f"{place}/pid"]
        with (place / "log").open("w") as log:
            process = subprocess.Popen([*words, "--storage-driver", "vfs", *options], stdout=log, stderr=log)
        try:
            _wait_until_it_serves(process, place / "log")
            yield place / "docker.sock"
        finally:
            process.terminate()
            process.wait(60)
            for mount in _mounts_below(place):
                subprocess.run(["umount", "-l", mount], check=False, capture_output=True)


def _wait_until_it_serves(process: subprocess.Popen[bytes], log: Path) -> None:
    pause = threading.Event()
    deadline = time.monotonic() + 60
    while "API listen on /" not in log.read_text():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        pause.wait(0.05)


def _mounts_below(place: Path) -> list[str]:
    mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    return [mount for mount in reversed(mounts) if mount.startswith(f"{place}/")]


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()
