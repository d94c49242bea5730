"""Daemons that take orders over TCP from other hosts: whoever reaches them is root here."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from garbi.hyper.host.sockets import LocalPort, Process, Use, local_ports, processes, socket_inodes
from garbi.hyper.model.machine import Protocol

_DOCKER = "dockerd"
_LIBVIRT = ("libvirtd", "virtproxyd", "virtqemud")
_DOCKER_PORTS = frozenset({2375, 2376})
_LIBVIRT_PORTS = frozenset({16509, 16514})
_DOCKER_SETTINGS = Path("/etc/docker/daemon.json")
_TCP_ADDRESS = re.compile(r"tcp://[^\s\0\"]*?:(\d{1,5})\b")


@dataclass(frozen=True, slots=True)
class ExposedDaemon:
    """A daemon that listens for orders on an address that is not this host's own."""

    process: Process
    address: str
    port: int

    def __str__(self) -> str:
        return f"{self.process.name} (pid {self.process.pid}) listens on {self.address}:{self.port}"


def exposed_daemons() -> list[ExposedDaemon]:
    """Docker and libvirt daemons that other hosts can give orders; the agent must not work beside one.

    Who may not look into a daemon's sockets (anybody but root) is told by the usual ports alone.
    """
    listening = [
        port for port in local_ports(Protocol.TCP) if port.use is Use.LISTENING and not port.address.is_loopback
    ]
    return [exposed for process in processes() for exposed in _exposed(process, listening)] if listening else []


def _exposed(process: Process, listening: Iterable[LocalPort]) -> list[ExposedDaemon]:
    if process.name != _DOCKER and process.name not in _LIBVIRT:
        return []
    inodes = socket_inodes(process.pid)
    # A dockerd without its proxy processes also listens on the ports that containers publish; those take no orders.
    orders = _docker_ports(process) if process.name == _DOCKER else _LIBVIRT_PORTS
    everything = process.name in _LIBVIRT
    return [
        ExposedDaemon(process, str(port.address), port.port)
        for port in listening
        if (port.inode in inodes and everything) or (port.port in orders and (port.inode in inodes or not inodes))
    ]


def _docker_ports(process: Process) -> frozenset[int]:
    texts = [_read(Path("/proc") / str(process.pid) / "cmdline"), _configured_hosts()]
    return _DOCKER_PORTS | {int(number) for text in texts for number in _TCP_ADDRESS.findall(text)}


def _configured_hosts() -> str:
    try:
        settings = json.loads(_read(_DOCKER_SETTINGS) or "{}")
    except ValueError:
        return ""
    hosts = settings.get("hosts", []) if isinstance(settings, dict) else []
    return " ".join(map(str, hosts)) if isinstance(hosts, list) else ""


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
