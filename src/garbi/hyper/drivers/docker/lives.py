"""In which of its lives an engine answers. One that ends takes its containers along, and the next one lists them as exited.

An engine that is told to end closes its socket before it ends the first container. So who makes a new connection after a look,
and is answered, knows that nothing in that look was the engine's doing.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from pathlib import Path

_PROC = Path("/proc")
_PING = b"GET /_ping HTTP/1.1\r\nHost: docker\r\n\r\n"
_CREDENTIALS = struct.Struct("3i")
_LISTENS = 0x10000
_STARTTIME = 19
"""Where proc(5) has the start of a process, in clock ticks, counted behind its name."""
_NAME = "dockerd"


def life_at(path: str, timeout_s: float) -> str:
    """The process that answers at a socket; empty when this host does not show it. Raises OSError when none answers."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(timeout_s)
        connection.connect(path)
        connection.sendall(_PING)
        if not connection.recv(1):
            raise ConnectionResetError("the engine closed the connection")
        pid = _peer(connection)
    return f"{pid}.{_start_of(pid)}" if pid and _start_of(pid) else ""


def _peer(connection: socket.socket) -> int:
    """The process at the other end. The kernel names who made the socket listen; that may be systemd, on behalf of the engine."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    listener, _, _ = _CREDENTIALS.unpack(raw)
    if listener and _name_of(listener) != "systemd":
        return int(listener)
    accepted = _accepted_at(str(connection.getpeername()))
    pids = [int(entry) for entry in os.listdir(_PROC) if entry.isdigit() and int(entry) != listener]
    engines = [pid for pid in pids if _name_of(pid) == _NAME]
    others = (pid for pid in pids if pid not in engines)
    found = next((pid for pid in (*engines, *others) if accepted & _sockets_of(pid)), 0)
    return found or (engines[0] if len(engines) == 1 else 0)


def _accepted_at(path: str) -> set[str]:
    """The sockets that were accepted at a path, as links of open files name them."""
    found = set()
    for line in (_PROC / "net/unix").read_text(errors="replace").splitlines()[1:]:
        fields = line.split(maxsplit=7)
        if len(fields) == 8 and fields[7] == path and not int(fields[3], 16) & _LISTENS:
            found.add(f"socket:[{fields[6]}]")
    return found


def _sockets_of(pid: int) -> set[str]:
    """The open files of a process, as the kernel names them; those of other users' processes only root may see."""
    found = set()
    with contextlib.suppress(OSError):
        for entry in os.scandir(_PROC / str(pid) / "fd"):
            with contextlib.suppress(OSError):
                found.add(os.readlink(entry.path))
    return found


def _name_of(pid: int) -> str:
    try:
        return (_PROC / str(pid) / "comm").read_text(errors="replace").strip()
    except OSError:
        return ""


def _start_of(pid: int) -> str:
    """When a process began: ids of processes are given again."""
    try:
        return (_PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()[_STARTTIME]
    except (OSError, IndexError):
        return ""
