"""Runs a program on one file of a stranger's: it sees no other file, no network, and has limits on memory, time and output.

With bubblewrap where it is installed and allowed; elsewhere with the limits, and without a network where that is allowed.
"""

from __future__ import annotations

import os
import selectors
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from garbi.base.errors import DriverUnavailable

FILE = "{file}"
"""Stands in a command for the path of the file, which is another one inside the sandbox."""

_INSIDE = "/image"
_TIMES = 2
_GRACE_S = 10.0
_OUTPUT_LIMIT = 1 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes of address space, seconds of processor time; the wall clock may take twice as long."""

    memory_bytes: int = 1 << 30
    cpu_s: int = 60


@dataclass(frozen=True, slots=True)
class Ended:
    """How a program ended: `killed` when it was over a limit, otherwise its exit code and what it wrote."""

    code: int
    output: str
    errors: str
    killed: bool


@cache
def sandbox_kind() -> str:
    """What confines inspections on this host: "bubblewrap", "network namespace" or "limits"."""
    if shutil.which("bwrap") and _works([*_bubblewrap(None), "/usr/bin/true"]):
        return "bubblewrap"
    if _works([*_without_network(), "/usr/bin/true"]):
        return "network namespace"
    return "limits"


def run_confined(command: Sequence[str], file: Path, limits: Limits) -> Ended:
    """Run `command`, in which FILE stands for `file`, and wait for it. Raises DriverUnavailable when it cannot be run."""
    with file.open("rb") as opened:
        if sandbox_kind() == "bubblewrap":
            prefix, path = _bubblewrap(file), _INSIDE
        else:
            prefix = _without_network() if sandbox_kind() == "network namespace" else []
            path = f"/proc/self/fd/{opened.fileno()}"
        argv = [*_limited(limits), *prefix, *(path if word == FILE else word for word in command)]
        return _run(argv, opened.fileno(), limits.cpu_s * _TIMES)


def python_command(module: str, *arguments: str) -> list[str]:
    """The command that runs a module of ours by the present interpreter."""
    return [sys.executable, "-I", "-B", "-m", module, *arguments]


def _run(argv: list[str], pass_fd: int, timeout_s: float) -> Ended:
    environment = {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "LC_ALL": "C.UTF-8"}
    try:
        process = subprocess.Popen(
            argv,
            env=environment,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=[pass_fd],
            start_new_session=True,
        )
    except OSError as error:
        raise DriverUnavailable(f"images cannot be inspected: {argv[0]} cannot be run ({error.strerror})") from error
    with process:
        deadline = time.monotonic() + timeout_s
        try:
            output = _collect(process, deadline)
            code = process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            with suppress(subprocess.TimeoutExpired):
                _collect(process, time.monotonic() + _GRACE_S)  # until the last of its children is gone
            return Ended(process.wait(), "", "", killed=True)
    return Ended(code, _text(output[0]), _text(output[1]), killed=code < 0 or code > 128)


def _collect(process: subprocess.Popen[bytes], deadline: float) -> tuple[bytes, bytes]:
    """What the program writes until it closes both streams, of each the first MiB; raises TimeoutExpired."""
    kept = {process.stdout: bytearray(), process.stderr: bytearray()}
    with selectors.DefaultSelector() as selector:
        for stream in kept:
            selector.register(stream, selectors.EVENT_READ)  # type: ignore[arg-type]
        while selector.get_map():
            ready = selector.select(deadline - time.monotonic())
            if not ready or time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(process.args, deadline)
            for key, _ in ready:
                block = os.read(key.fd, 65536)
                kept[key.fileobj] += block[: _OUTPUT_LIMIT - len(kept[key.fileobj])]  # type: ignore[index]
                if not block:
                    selector.unregister(key.fileobj)
    return bytes(kept[process.stdout]), bytes(kept[process.stderr])


def _text(stream: bytes) -> str:
    return stream.decode("utf-8", "replace")


def _limited(limits: Limits) -> list[str]:
    """prlimit sets limits in the child alone; doing so between fork and exec is not safe in a program with threads."""
    return [
        _required("prlimit", "util-linux"),
        f"--as={limits.memory_bytes}",
        f"--cpu={limits.cpu_s}",
        "--fsize=0",
        "--core=0",
        "--nofile=64",
        "--",
    ]


def _bubblewrap(file: Path | None) -> list[str]:
    command = [
        _required("bwrap", "bubblewrap"),
        "--unshare-all",
        "--die-with-parent",
        "--new-session",
        "--cap-drop",
        "ALL",
    ]
    for directory in _runtime():
        command += ["--symlink", os.readlink(directory), directory] if Path(directory).is_symlink() else []
        command += ["--ro-bind", directory, directory] if not Path(directory).is_symlink() else []
    for device in ("/dev/null", "/dev/urandom"):
        command += ["--dev-bind", device, device]
    if file is not None:
        command += ["--ro-bind", str(file.absolute()), _INSIDE]
    return [*command, "--remount-ro", "/", "--chdir", "/", "--"]


@cache
def _runtime() -> tuple[str, ...]:
    """The directories that a program of the distribution, and our own interpreter with its libraries, need to start."""
    system = [name for name in ("/usr", "/bin", "/sbin", "/lib", "/lib64") if os.path.lexists(name)]
    package = find_spec("garbi")
    source = Path(package.origin).parents[1] if package and package.origin else Path(__file__).parents[3]
    ours = [str(Path(place).absolute()) for place in (sys.base_prefix, sys.prefix, source)]
    needed = [place for place in dict.fromkeys(ours) if not any(Path(place).is_relative_to(known) for known in system)]
    return (*system, *needed)


def _without_network() -> list[str]:
    return [
        _required("unshare", "util-linux"),
        *([] if os.geteuid() == 0 else ["--map-root-user"]),
        "--net",
        "--ipc",
        "--",
    ]


def _works(command: list[str]) -> bool:
    try:
        result = subprocess.run(command, capture_output=True, timeout=10, check=False, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return result.returncode == 0


def _required(program: str, package: str) -> str:
    found = shutil.which(program)
    if found is None:
        raise DriverUnavailable(f"images cannot be inspected: install {package} (apt-get install {package})")
    return found
