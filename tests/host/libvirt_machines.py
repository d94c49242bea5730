"""Machines for the tests of the libvirt driver: a tiny image, an agent of the test's own, and a way to wait."""

from __future__ import annotations

import contextlib
import hashlib
import json
import secrets
import shutil
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Condition as Signal
from threading import Event
from typing import Any

from garbi.base.clock import SystemClock
from garbi.hyper.drivers.libvirt import LibvirtDriver
from garbi.hyper.drivers.protocol import Condition, DriverContext, ImageFile, MachineDefinition
from garbi.hyper.images.tiny import build_tiny
from garbi.hyper.model.image import ImageType

_pause = Event()


class Reports:
    """Collects what a driver notifies of, with the time."""

    def __init__(self) -> None:
        self._signal = Signal()
        self.seen: list[str | None] = []

    def __call__(self, machine_id: str | None) -> None:
        with self._signal:
            self.seen.append(machine_id)
            self._signal.notify_all()

    def clear(self) -> None:
        with self._signal:
            self.seen.clear()

    def wait_until(self, check: Callable[[], bool], within_s: float = 90.0) -> None:
        """Wait for a report after which `check` holds, without looking in between."""
        with self._signal:
            assert self._signal.wait_for(lambda: bool(self.seen) and check(), within_s), f"{self.seen} is all"


class Cloudlet:
    """An agent's libvirt driver with its own cluster id and data directory, all of it deleted at the end."""

    def __init__(self, image: ImageFile, uri: str = "qemu:///system", data_dir: Path | None = None) -> None:
        self.image = image
        self.data_dir = data_dir or open_directory()
        self.context = DriverContext(secrets.token_hex(16), self.data_dir, SystemClock(), {"uri": uri})
        self.driver: Any = LibvirtDriver(self.context)
        self.driver.prepare(image)
        self.network = self.driver.guest_network()

    def define(self, machine_id: str, host: int = 10, **changes: Any) -> MachineDefinition:
        fields: dict[str, Any] = {"name": machine_id, "image": self.image, "mem": 128, "cpus": 1}
        fields |= {"address": str(self.network.subnet[host]), "mac": f"52:54:00:{secrets.token_bytes(3).hex(':')}"}
        return MachineDefinition(id=machine_id, **(fields | changes))

    def run(self, machine_id: str, host: int = 10, **changes: Any) -> MachineDefinition:
        machine = self.define(machine_id, host, **changes)
        self.driver.add(machine)
        self.driver.start(machine_id)
        return machine

    def condition(self, machine_id: str) -> Condition | None:
        seen = self.driver.observe(machine_id)
        return seen[0].condition if seen else None

    def failure(self, machine_id: str) -> str:
        return str(self.driver.observe(machine_id)[0].failure)

    def domain_name(self, machine_id: str) -> str:
        return f"garbi-{self.context.cluster_id[:8]}-{machine_id}"

    def disk(self, machine_id: str) -> Path:
        return self.data_dir / "pool" / f"{machine_id}.qcow2"

    def close(self) -> None:
        self.driver.close()
        driver: Any = LibvirtDriver(self.context)
        for seen in driver.observe():
            driver.remove(seen.machine_id)
        driver.withdraw()
        driver.close()
        shutil.rmtree(self.data_dir, ignore_errors=True)


@contextlib.contextmanager
def cloudlet(image: ImageFile, uri: str = "qemu:///system", data_dir: Path | None = None) -> Iterator[Cloudlet]:
    made = Cloudlet(image, uri, data_dir)
    try:
        yield made
    finally:
        made.close()


def open_directory() -> Path:
    """A directory that QEMU's user may pass through; pytest's own are closed to it."""
    path = Path(tempfile.mkdtemp(prefix="garbi-libvirt-"))
    path.chmod(0o711)
    return path


def tiny_image(directory: Path) -> ImageFile:
    path, _ = build_tiny(directory)
    return image_file(path, ImageType.QCOW2)


def blank_image(directory: Path, kind: ImageType, size: str) -> ImageFile:
    path = directory / f"blank.{kind.value}"
    subprocess.run(["qemu-img", "create", "-q", "-f", kind.value, "--", str(path), size], check=True)
    return image_file(path, kind)


def image_file(path: Path, kind: ImageType) -> ImageFile:
    path.chmod(0o444)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest() if path.stat().st_size < 1 << 28 else "0" * 64
    return ImageFile(sha256, kind, path, about(path, kind.value)["virtual-size"])


def about(path: Path, kind: str) -> dict[str, Any]:
    """What qemu-img says of a disk; it may be in use."""
    command = ["qemu-img", "info", "-U", "-f", kind, "--output=json", "--", str(path)]
    answer: dict[str, Any] = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return answer


def eventually(what: str, check: Callable[[], object], within_s: float = 90.0) -> None:
    """Wait until `check` is true."""
    end = time.monotonic() + within_s
    while not check():
        assert time.monotonic() < end, f"{what}: not within {within_s} s"
        _pause.wait(0.05)


def page(address: str, path: str = "/") -> str:
    """The page of a guest; empty while it does not answer."""
    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=5) as answer:
            return str(answer.read().decode())
    except OSError:
        return ""


def facts(address: str) -> dict[str, str]:
    """What the tiny guest says of itself; empty while it does not answer."""
    return dict(line.split(" ", 1) for line in page(address, "/cgi-bin/info").splitlines() if " " in line)
