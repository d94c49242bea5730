"""The tiny images, built for real, booted by QEMU and run by Docker: what they serve, how they end, how they are built."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from tests.free_ports import free_port

from garbi.base.errors import DriverUnavailable
from garbi.base.failpoints import EXIT_CODE
from garbi.content.inspection import inspect_image
from garbi.hyper.images.tiny import READY_LINE, build_tiny
from garbi.hyper.images.tiny import tools as tiny_tools
from garbi.hyper.model.image import ImageType

BOOT_S = 120
TEBIBYTE = 1 << 40


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return build_tiny(tmp_path_factory.mktemp("tiny"))


class Guest:
    """A virtual machine under QEMU, with its two ports led to free ones of the host."""

    def __init__(
        self, process: subprocess.Popen[bytes], console: Path, control: socket.socket, ports: tuple[int, int]
    ) -> None:
        self.process, self.console, self.ports = process, console, ports
        self._control = control.makefile("rw")
        self._control.readline()
        self.command("qmp_capabilities")

    def command(self, verb: str) -> None:
        self._control.write(json.dumps({"execute": verb}) + "\n")
        self._control.flush()

    def next_event(self, name: str) -> dict[str, Any]:
        """Wait for an event of QEMU."""
        while True:
            message: dict[str, Any] = json.loads(self._control.readline())
            if message.get("event") == name:
                return message

    def wait_ready(self) -> str:
        """Wait for the ready line on the console, which is a pipe, and return it."""
        with self.console.open(errors="replace") as console:
            for line in console:
                if line.startswith(READY_LINE):
                    return line
        raise AssertionError("the guest ended before it was ready")

    def fetch(self, path: str) -> str:
        return fetch(f"http://127.0.0.1:{self.ports[0]}{path}")


@contextmanager
def booted(disk: Path, work: Path, mem: int, machine: str) -> Iterator[Guest]:
    overlay, console, control = work / "overlay.qcow2", work / "console", work / "qmp"
    create = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", str(disk), "--", str(overlay)]
    subprocess.run(create, check=True)
    os.mkfifo(console)
    ports = (free_port(), free_port())
    forward = f"hostfwd=tcp:127.0.0.1:{ports[0]}-:80,hostfwd=udp:127.0.0.1:{ports[1]}-:7"
    command = [
        "qemu-system-x86_64",
        "-machine",
        machine,
        "-accel",
        "tcg",
        "-m",
        str(mem),
        "-smp",
        "2",
        "-display",
        "none",
    ]
    command += ["-drive", f"file={overlay},if=virtio,format=qcow2", "-device", "pvpanic", "-serial", f"file:{console}"]
    command += ["-nic", f"user,model=virtio-net-pci,hostname=one,{forward}"]
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(control))
    listener.listen()
    listener.settimeout(BOOT_S)
    process = subprocess.Popen([*command, "-qmp", f"unix:{control}"])
    try:
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(BOOT_S)
            yield Guest(process, console, connection, ports)
    finally:
        process.kill()
        process.wait()
        listener.close()


def fetch(url: str) -> str:
    with urllib.request.urlopen(url, timeout=BOOT_S) as answer:
        content: bytes = answer.read()
        return content.decode()


def facts(text: str) -> dict[str, str]:
    return dict(line.split(" ", 1) for line in text.splitlines())


def echo(port: int, message: bytes) -> bytes:
    """Send a datagram until it comes back: UDP may lose it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(1)
        for _ in range(20):
            client.sendto(message, ("127.0.0.1", port))
            try:
                return client.recv(65536)
            except (TimeoutError, ConnectionRefusedError):
                continue
    raise AssertionError("the echo never answered")


@pytest.mark.parametrize("machine", ["pc", "q35"])
def test_the_disk_boots_in_128_mib_and_serves_page_facts_and_echo(
    built: tuple[Path, Path], tmp_path: Path, machine: str
) -> None:
    with booted(built[0], tmp_path, 128, machine) as guest:
        assert "one serves a page" in guest.wait_ready()
        assert "<h1>Hello from one</h1>" in guest.fetch("/")
        seen = facts(guest.fetch("/cgi-bin/info"))
        assert (seen["hostname"], seen["kind"], seen["cpus"]) == ("one", "vm", "2")
        assert 80_000 < int(seen["memory_kib"]) < 128 * 1024
        assert int(seen["uptime_seconds"]) < BOOT_S
        assert [echo(guest.ports[1], message) for message in (b"a", bytes(1000))] == [b"a", bytes(1000)]
        assert guest.fetch("/cgi-bin/eat?16") == "eaten\n"
        assert guest.fetch("/cgi-bin/eat?4000") == "refused\n"


def test_the_power_button_ends_the_guest(built: tuple[Path, Path], tmp_path: Path) -> None:
    with booted(built[0], tmp_path, 96, "pc") as guest:
        guest.wait_ready()
        guest.command("system_powerdown")
        assert guest.process.wait(BOOT_S) == 0


def test_a_kernel_panic_is_reported_to_the_hypervisor(built: tuple[Path, Path], tmp_path: Path) -> None:
    with booted(built[0], tmp_path, 96, "pc") as guest:
        guest.wait_ready()
        with suppress(OSError):  # the answer may come before the crash, or not
            guest.fetch("/cgi-bin/crash")
        assert guest.next_event("GUEST_PANICKED")


@contextmanager
def container(archive: Path, *options: str) -> Iterator[str]:
    name = f"garbi-test-{uuid.uuid4().hex[:12]}"
    loaded = docker("load", "-q", "-i", str(archive)).rpartition("sha256:")[2].strip()
    try:
        docker("run", "-d", "--name", name, "--cap-drop", "ALL", "--cap-add", "NET_BIND_SERVICE", *options, loaded)
        yield name
    finally:
        subprocess.run(["docker", "rm", "-f", "-v", name], capture_output=True, check=False)
        # Kept when a container of another test run was made from the same image: the engine refuses then.
        subprocess.run(["docker", "image", "rm", loaded], capture_output=True, check=False)


def docker(*arguments: str) -> str:
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=True).stdout.strip()


def published(name: str, port: str) -> int:
    return int(docker("port", name, port).splitlines()[0].rpartition(":")[2])


def fetch_when_up(name: str, path: str) -> str:
    """Wait for the ready line in the container's log, then fetch."""
    with subprocess.Popen(["docker", "logs", "-f", name], stdout=subprocess.PIPE, text=True) as log:
        assert log.stdout is not None
        assert any(line.startswith(READY_LINE) for line in log.stdout)
        log.kill()
    return fetch(f"http://127.0.0.1:{published(name, '80')}{path}")


def test_the_container_serves_without_privileges_and_shows_its_limits(built: tuple[Path, Path]) -> None:
    limits = ["-m", "64m", "--cpus", "0.5", "--read-only", "--security-opt", "no-new-privileges", "--hostname", "one"]
    with container(built[1], *limits, "-p", "127.0.0.1::80", "-p", "127.0.0.1::7/udp") as name:
        seen = facts(fetch_when_up(name, "/cgi-bin/info"))
        assert (seen["hostname"], seen["kind"]) == ("one", "container")
        assert seen["memory_limit_bytes"] == str(64 << 20)
        assert seen["cpu_quota"] == "50000 100000"
        assert echo(published(name, "7/udp"), b"hello") == b"hello"
        assert fetch(f"http://127.0.0.1:{published(name, '80')}/cgi-bin/eat?500") == "refused\n"
        fetch(f"http://127.0.0.1:{published(name, '80')}/cgi-bin/say?hello%20there")
        assert "hello there" in docker("logs", name)


def test_the_container_ends_by_itself_with_code_0_when_it_is_stopped(built: tuple[Path, Path]) -> None:
    with container(built[1], "-p", "127.0.0.1::80") as name:
        fetch_when_up(name, "/")
        subprocess.run(["docker", "stop", "-t", "60", name], capture_output=True, check=True, timeout=120)
        assert docker("inspect", "-f", "{{.State.ExitCode}}", name) == "0"


@pytest.mark.parametrize(("script", "code"), [("exit", "3"), ("crash", "134")])
def test_the_container_fails_when_a_test_asks_it_to(built: tuple[Path, Path], script: str, code: str) -> None:
    with container(built[1], "-p", "127.0.0.1::80") as name:
        fetch_when_up(name, f"/cgi-bin/{script}")
        assert docker("wait", name) == code


def test_both_pass_the_inspection_and_have_the_promised_size(built: tuple[Path, Path]) -> None:
    assert inspect_image(built[0], ImageType.QCOW2, TEBIBYTE) == 16 << 20
    assert inspect_image(built[1], ImageType.DOCKER, TEBIBYTE) < 4 << 20
    assert 10 << 20 < built[0].stat().st_size < 20 << 20
    assert built[1].stat().st_size < 3 << 20


def test_building_again_gives_the_same_bytes(built: tuple[Path, Path], tmp_path: Path) -> None:
    again = build_tiny(tmp_path)
    assert [digest(path) for path in again] == [digest(path) for path in built]


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_build_killed_half_way_shows_nothing_and_the_next_clears_up(tmp_path: Path) -> None:
    target = tmp_path / "images"
    program = (
        "import pathlib, sys; from garbi.hyper.images.tiny import build_tiny; build_tiny(pathlib.Path(sys.argv[1]))"
    )
    environment = {**os.environ, "GARBI_CRASH_AT": "tiny.built"}
    killed = subprocess.run([sys.executable, "-c", program, str(target)], env=environment, check=False)
    assert killed.returncode == EXIT_CODE
    assert [path for path in target.iterdir() if not path.name.startswith(".")] == []
    build_tiny(target)
    assert sorted(path.name for path in target.iterdir()) == ["tiny-docker.tar", "tiny.qcow2"]


def test_missing_programs_are_named_with_their_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiny_tools, "_PATH", str(tmp_path))
    with pytest.raises(DriverUnavailable, match="apt-get install syslinux mtools dosfstools qemu-utils") as caught:
        build_tiny(tmp_path / "images")
    assert "mtools" in caught.value.extra["packages"]


def test_an_unwritable_target_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Exception, match="cannot be written to") as caught:
        build_tiny(tmp_path / "file")
    assert caught.value.code == "driver-failed"  # type: ignore[attr-defined]
