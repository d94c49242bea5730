"""Who uses which port of this host: the kernel's socket tables, and the processes behind them."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Collection
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

from garbi.hyper.host import netlink
from garbi.hyper.model.machine import Protocol

_PROC = Path("/proc")
_DIAG_BY_FAMILY = 20
_TCP_STATE_LISTEN = 10
_TCP_STATE_BOUND_INACTIVE = 13


class Use(IntEnum):
    """How a socket uses its local port, the strongest first."""

    LISTENING = 0
    BOUND = 1
    CONNECTED = 2


@dataclass(frozen=True, slots=True)
class LocalPort:
    """A socket of this host that uses a local port. `inode` is 0 when no process has it any more (TIME_WAIT)."""

    protocol: Protocol
    address: IPv4Address | IPv6Address
    port: int
    use: Use
    inode: int


@dataclass(frozen=True, slots=True)
class Process:
    """A running process: its id and the name that the kernel keeps of it."""

    pid: int
    name: str


def local_ports(protocol: Protocol) -> list[LocalPort]:
    """Every socket of this network namespace that has a local port; silent TCP sockets too, where the kernel tells."""
    found = [entry for table in (protocol, f"{protocol}6") for entry in _read_table(protocol, _PROC / "net" / table)]
    return found + (_bound_inactive() if protocol is Protocol.TCP else [])


def socket_inodes(pid: int) -> set[int]:
    """The sockets that a process has open; empty when it ended or may not be looked at."""
    inodes: set[int] = set()
    try:
        with os.scandir(_PROC / str(pid) / "fd") as entries:
            for entry in entries:
                inode = _inode_of(entry.path)
                if inode:
                    inodes.add(inode)
    except OSError:
        pass
    return inodes


def owner_of(inodes: Collection[int]) -> Process | None:
    """The oldest process that has one of these sockets open; None when there is none, or none that may be looked at."""
    wanted = {inode for inode in inodes if inode}
    if not wanted:
        return None
    return next((process for process in processes() if socket_inodes(process.pid) & wanted), None)


def processes() -> list[Process]:
    """Every process that this one may see, by ascending id."""
    pids = sorted(int(entry) for entry in os.listdir(_PROC) if entry.isdigit())
    return [Process(pid, name) for pid in pids if (name := _name_of(pid))]


def _name_of(pid: int) -> str:
    try:
        text = (_PROC / str(pid) / "comm").read_text(errors="replace").strip()
    except OSError:
        return ""
    return "".join(char if char.isprintable() else "?" for char in text)


def _inode_of(path: str) -> int:
    try:
        target = os.readlink(path)
    except OSError:
        return 0
    return int(target[8:-1]) if target.startswith("socket:[") else 0


def _read_table(protocol: Protocol, path: Path) -> list[LocalPort]:
    try:
        lines = path.read_text().splitlines()[1:]
    except OSError:
        return []
    return [_parse(protocol, line.split()) for line in lines]


def _parse(protocol: Protocol, fields: list[str]) -> LocalPort:
    address, port = fields[1].split(":")
    remote_port = fields[2].rsplit(":", 1)[1]
    if protocol is Protocol.TCP:
        use = Use.LISTENING if int(fields[3], 16) == _TCP_STATE_LISTEN else Use.CONNECTED
    else:
        use = Use.BOUND if remote_port == "0000" else Use.CONNECTED
    return LocalPort(protocol, _address(address), int(port, 16), use, int(fields[9]))


def _address(text: str) -> IPv4Address | IPv6Address:
    """The kernel writes each 32-bit word of an address in the order of the processor."""
    words = struct.unpack(f">{len(text) // 8}I", bytes.fromhex(text))
    return ip_address(struct.pack(f"={len(words)}I", *words))


def _bound_inactive() -> list[LocalPort]:
    """Sockets that are bound and neither listen nor connect; kernels before 6.8 do not tell."""
    found: list[LocalPort] = []
    for family in (socket.AF_INET, socket.AF_INET6):
        query = struct.pack("=BBBxI48x", family, socket.IPPROTO_TCP, 0, 1 << _TCP_STATE_BOUND_INACTIVE)
        try:
            found += [_parse_diag(body) for body in netlink.dump(netlink.SOCK_DIAG, _DIAG_BY_FAMILY, query)]
        except OSError:
            return found
    return found


def _parse_diag(body: bytes) -> LocalPort:
    (port,) = struct.unpack_from("!H", body, 4)
    raw = body[8:12] if body[0] == socket.AF_INET else body[8:24]
    (inode,) = struct.unpack_from("=I", body, 68)
    return LocalPort(Protocol.TCP, ip_address(raw), port, Use.BOUND, inode)
