"""Docker Engines for the tests: this host's, asked by its own command, and engines of a test's own that may be broken."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HOST_SOCKET = Path("/var/run/docker.sock")
READY_S = 60.0

_pause = threading.Event()


def eventually(what: str, check: Callable[[], object], within_s: float = 60.0) -> None:
    """Wait until `check` is true; fail, saying what was waited for, when it is not in that time."""
    end = time.monotonic() + within_s
    while not check():
        assert time.monotonic() < end, f"{what}: not within {within_s} s"
        _pause.wait(0.01)


class Engine:
    """The docker command on one engine."""

    def __init__(self, path: Path = HOST_SOCKET) -> None:
        self.path = path

    @property
    def host(self) -> str:
        return f"unix://{self.path}"

    def docker(self, *arguments: str, check: bool = True) -> str:
        """What the command prints; fails with its words when it fails, unless told not to."""
        command = ["docker", "-H", self.host, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0 or not check, f"docker {' '.join(arguments)}: {done.stderr}"
        return done.stdout.strip()

    def inspect(self, name: str, kind: str = "container") -> dict[str, Any]:
        """All that the engine knows of a container or an image."""
        described: dict[str, Any] = json.loads(self.docker(kind, "inspect", name))[0]
        return described

    def image_ids(self) -> set[str]:
        """Every image, those without a name included."""
        return set(self.docker("image", "ls", "-aq", "--no-trunc").split())

    def image_names(self) -> set[str]:
        """Every name of an image, by tag or by digest."""
        pattern = "{{.Repository}}:{{.Tag}}@{{.Digest}}"
        return set(self.docker("image", "ls", "-a", "--digests", "--format", pattern).split())

    def sweep(self, cluster_id: str) -> None:
        """Delete everything of that cluster, whatever state it is in."""
        for container in self.docker("ps", "-aq", "--filter", f"label=garbi.cluster={cluster_id}").split():
            self.docker("rm", "-f", "-v", container, check=False)
        for image in self.docker(
            "image", "ls", "--format", "{{.Repository}}:{{.Tag}}", f"garbi/{cluster_id[:8]}"
        ).split():
            self.docker("image", "rm", "-f", image, check=False)


class OwnEngine(Engine):
    """A dockerd of the test's own: its own data, bridge and socket, no rule in the host's firewall."""

    def __init__(self, directory: Path, bridge: str, options: Sequence[str] = ()) -> None:
        super().__init__(directory / "engine.sock")
        self.restores = "--live-restore" in options
        self._directory = directory
        self._command = [
            "dockerd",
            *("--host", self.host, "--data-root", str(directory / "data"), "--exec-root", str(directory / "exec")),
            *("--pidfile", str(directory / "engine.pid"), "--bridge", bridge),
            *("--iptables=false", "--ip-masq=false", "--ip-forward=false", "--userland-proxy=true"),
            *options,
        ]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        eventually("the test's own dockerd answers", self._answers, READY_S)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End it and wait until it is gone; with SIGKILL its containers stay behind, as after a crash."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(how)
            process.wait(READY_S)
            self._end_containerd()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Inside, the engine does nothing at all, although its socket takes connections."""
        assert self._process is not None
        pid = self._process.pid
        os.kill(pid, signal.SIGSTOP)
        try:
            tasks = Path(f"/proc/{pid}/task")
            eventually("it stops", lambda: {_state(int(task.name)) for task in tasks.iterdir()} == {"T"})
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    def close(self) -> None:
        """Delete all of it."""
        if self._process is None:
            self.start()
        for container in self.docker("ps", "-aq").split():
            self.docker("rm", "-f", "-v", container, check=False)
        self.stop()

    def _end_containerd(self) -> None:
        """Wait for the end of its containerd, which an engine that starts would take for alive as long as nobody reaps it."""
        note = self._directory / "exec" / "containerd" / "containerd.pid"
        if note.exists():
            pid = int(note.read_text())
            eventually("containerd ends", lambda: _state(pid) in ("", "Z"))
            note.unlink()

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._directory / "log").read_text()[-2000:]
        return bool(self.docker("version", "--format", "{{.Server.Version}}", check=False))


@contextmanager
def own_engine(*options: str, data_size: str = "") -> Iterator[OwnEngine]:
    """An engine of the test's own, started with `options`, its data on a disk of `data_size` ("40m") if that is given."""
    directory, bridge = Path(tempfile.mkdtemp(prefix="garbi-engine-")), f"gt{secrets.token_hex(4)}"
    engine = OwnEngine(directory, bridge, options)
    octets = secrets.token_bytes(2)
    try:
        _run("ip", "link", "add", bridge, "type", "bridge")
        _run("ip", "address", "add", f"10.{128 + octets[0] % 64}.{octets[1]}.1/24", "dev", bridge)
        _run("ip", "link", "set", bridge, "up")
        (directory / "data").mkdir()
        if data_size:
            _run("mount", "-t", "tmpfs", "-o", f"size={data_size}", "garbi-test", str(directory / "data"))
        engine.start()
        yield engine
        engine.close()
    finally:
        engine.stop(signal.SIGKILL)
        for pid in _processes_of(directory):
            os.kill(pid, signal.SIGKILL)
        for mount in _mounts_below(directory):
            subprocess.run(["umount", "-l", mount], check=False, stderr=subprocess.DEVNULL)
        _run("ip", "link", "delete", bridge)
        shutil.rmtree(directory, ignore_errors=True)


def _mounts_below(directory: Path) -> list[str]:
    mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    return sorted((mount for mount in mounts if mount.startswith(f"{directory}{os.sep}")), reverse=True)


def _state(pid: int) -> str:
    """The letter that the kernel has for what the process does; empty when there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return ""


def _processes_of(directory: Path) -> list[int]:
    """What a killed engine left: processes that name the directory in their command, and their children in containers."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if str(directory).encode() in (entry / "cmdline").read_bytes():
                found += [int(child) for child in (entry / "task" / entry.name / "children").read_text().split()]
                found.append(int(entry.name))
        except OSError:
            continue
    return [pid for pid in found if pid != os.getpid() and _state(pid) not in ("", "Z")]


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
