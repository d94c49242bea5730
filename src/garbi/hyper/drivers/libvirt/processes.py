"""The QEMU processes of this host's machines: tells at once when one was killed.

libvirt answers nothing about a domain whose process has ended until that is reaped, which takes seconds on a host whose
process 1 is slow. The kernel knows at once, and how it ended. What cannot be seen here is left to libvirt.
"""

from __future__ import annotations

import contextlib
import os
import re
import selectors
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

PID_DIR = Path("/run/libvirt/qemu")
_GUEST, _UUID = re.compile(rb"\0-name\0guest=([^,\0]*)"), re.compile(rb"\0-uuid\0([0-9a-f-]{36})\0")
_EXIT_CODE = 49  # of the fields that follow the name, see proc(5)


def pid_of(domain_name: str) -> int | None:
    """The process of a domain, while libvirt takes it for running; None when that is not to be seen here."""
    try:
        return int((PID_DIR / f"{domain_name}.pid").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def pids_of(domain_uuid: str) -> list[int]:
    """The processes that run a domain, found by their command line, whatever libvirt says or writes; none has ended."""
    sought, found = f"\0-uuid\0{domain_uuid}\0".encode(), []
    for name in os.listdir("/proc"):
        if name.isdecimal():
            with contextlib.suppress(OSError):
                if sought in Path(f"/proc/{name}/cmdline").read_bytes():  # that of a process that has ended is empty
                    found.append(int(name))
    return found


@dataclass(frozen=True, slots=True)
class Guest:
    """A domain that runs on this host: its name, and what libvirt wrote down of it at its start; empty if that is not found."""

    name: str
    document: str


def guests() -> dict[str, Guest]:
    """All domains that run on this host, by their UUIDs; those of hosts that are containers here are none of its own."""
    found, here = {}, os.readlink("/proc/self/ns/pid")
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            line = Path(f"/proc/{pid}/cmdline").read_bytes()
            guest, uuid = _GUEST.search(line), _UUID.search(line)
            if guest and uuid and os.readlink(f"/proc/{pid}/ns/pid") == here:
                name = guest[1].decode(errors="replace")
                found[uuid[1].decode()] = Guest(name, _document(pid, name))
    return found


def _document(pid: str, name: str) -> str:
    """Read where the process sees it: its libvirt may see other files than we do."""
    try:
        return Path(f"/proc/{pid}/root{PID_DIR}/{name}.xml").read_text(errors="replace")
    except OSError:
        return ""


def was_killed(pid: int) -> bool:
    """Whether the process has ended by a signal or an error, and is yet to be reaped."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    except OSError:
        return False
    return len(fields) > _EXIT_CODE and fields[0] in "ZX" and fields[_EXIT_CODE] != "0"


def is_gone(pid: int) -> bool:
    """Whether the process has ended and was reaped."""
    return not Path(f"/proc/{pid}").exists()


class ProcessWatch:
    """One thread that waits for the ends of processes, and calls `report` with the name that each was followed under."""

    def __init__(self, report: Callable[[str], None]) -> None:
        self._report = report
        self._selector = selectors.DefaultSelector()
        self._lock = threading.Lock()
        self._followed: dict[str, int] = {}
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._selector.register(self._wake, selectors.EVENT_READ)
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="libvirt-processes", daemon=True)
        self._thread.start()

    def follow(self, name: str, pid: int) -> None:
        """Report the end of this process, once; a process that has already ended is left to others."""
        with self._lock, contextlib.suppress(OSError):
            if self._closed or self._followed.get(name) == pid:
                return
            handle = os.pidfd_open(pid)
            self._followed[name] = pid
            self._selector.register(handle, selectors.EVENT_READ, (name, pid))
            os.eventfd_write(self._wake, 1)

    def close(self) -> None:
        """Follow nothing more."""
        with self._lock:
            if not self._closed:
                self._closed = True
                os.eventfd_write(self._wake, 1)
        if self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        while not self._closed:
            for key, _ in self._selector.select():
                if key.data is None:
                    with contextlib.suppress(BlockingIOError):
                        os.eventfd_read(self._wake)
                else:
                    self._note_end(key)
        with self._lock:
            for handle in [key.fd for key in self._selector.get_map().values()]:
                self._selector.unregister(handle)
                os.close(handle)
            self._selector.close()

    def _note_end(self, key: selectors.SelectorKey) -> None:
        name, pid = key.data
        with self._lock:
            self._selector.unregister(key.fd)
            os.close(key.fd)
            if self._followed.get(name) == pid:
                del self._followed[name]
        self._report(name)
