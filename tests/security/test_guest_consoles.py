"""Threats A: a guest that attacks whoever reads its console, fills the disk with it, or leaves it to its successor."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.api.conftest import Server
from tests.host.agent.host_agent import HostAgent, eventually, output
from tests.host.docker_archives import busybox_tree, image_config, saved_archive
from tests.security.guest_programs import DISK, DONE, SECTOR, flooder, writer
from tests.security.test_guest_disks import contents

from garbi.hyper.model.image import ImageType
from garbi.hyper.model.machine import Wish

pytestmark = [pytest.mark.root, pytest.mark.docker, pytest.mark.libvirt]

MEBIBYTE = 1 << 20
ESCAPES = b"\x1b]0;title\x07\x1b[2J\x1b[31m\x9b1m\x08\x0b\x1b]52;c;cm0=\x07<script>alert(1)</script>\r\n"
SECRET = b"what only the former machine may know"
VIRTLOGD_FILES, VIRTLOGD_FILE = 4, 2 * MEBIBYTE
DOCKER_FILES, DOCKER_FILE = 2, MEBIBYTE
ANNOUNCED = "echo ready; while :; do busybox sleep 60; done"


def container(script: str, **config: object) -> bytes:
    layers = [busybox_tree({"escapes": ESCAPES})]
    return saved_archive(layers, image_config(layers, ["/bin/sh", "-c", script], **config))


CONTENTS = {
    "talking-vm": (ImageType.RAW, writer(SECRET, ESCAPES)),
    "flooding-vm": (ImageType.RAW, flooder()),
    "talking-container": (ImageType.DOCKER, container(f"busybox cat /escapes; echo {DONE}; {ANNOUNCED}")),
    "flooding-container": (ImageType.DOCKER, container("busybox yes 0123456789abcdef")),
    "remembering-container": (
        ImageType.DOCKER,
        container(
            f"busybox ls /data /secret; echo '{SECRET.decode()}' > /data/secret; echo x > /secret; {ANNOUNCED}",
            Volumes={"/data": {}},
        ),
    ),
}


@pytest.fixture(scope="module", autouse=True)
def images(host: HostAgent) -> Iterator[None]:
    for name, (kind, content) in CONTENTS.items():
        host.agent.images.add(name, kind, [content])
    yield
    for name in CONTENTS:
        host.agent.images.remove(name)


def said(host: HostAgent, machine_id: str) -> bytes:
    return host.agent.machines.console_log(machine_id, 99_999)


@pytest.mark.parametrize("kind", ["talking-vm", "talking-container"])
def test_cve_2026_40212_a_console_is_text_for_a_browser_and_harmless_for_a_terminal(
    host: HostAgent, front: Server, kind: str
) -> None:
    host.run("talker", kind, mem=32)
    eventually("the machine has spoken", lambda: DONE.encode() in said(host, "talker"))
    answer = front.ask("GET", "/hyper/machines/talker/log")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "\x1b[2J" in answer.body.decode(), "the log is told as it is"
    shown = front.hyper("log", "talker").stdout
    assert "<script>alert(1)</script>" in shown
    assert DONE in shown
    assert [char for char in shown if unicodedata.category(char) == "Cc" and char not in "\n\t"] == []
    host.remove("talker")


def test_a_flood_of_a_virtual_machines_console_ends_in_a_ring_on_the_disk(host: HostAgent) -> None:
    host.run("flood", "flooding-vm", mem=32)
    oldest = host.data_dir / "drivers/libvirt/console" / f"flood.log.{VIRTLOGD_FILES - 2}"
    eventually("the ring is full", oldest.exists)
    sizes = [each.stat().st_size for each in oldest.parent.glob("flood.log*")]
    assert sum(sizes) <= VIRTLOGD_FILES * (VIRTLOGD_FILE + 64 * 1024)
    assert len(said(host, "flood")) == 99_999
    host.remove("flood")
    assert list(oldest.parent.glob("flood*")) == []


def test_a_flood_of_a_containers_console_ends_in_a_ring_on_the_disk(host: HostAgent) -> None:
    host.run("flood", "flooding-container", mem=32)
    log = Path(output("docker", "inspect", "-f", "{{.LogPath}}", host.daemon_name("flood")))
    older = log.with_name(log.name + ".1")
    eventually("the ring is full", older.exists)
    first = older.stat().st_ino
    eventually("the ring goes round", lambda: older.exists() and older.stat().st_ino != first)
    sizes = [each.stat().st_size for each in log.parent.glob(log.name + "*")]
    assert sum(sizes) <= DOCKER_FILES * (DOCKER_FILE + 64 * 1024)
    host.remove("flood")
    assert not log.parent.exists()


def test_ossa_2013_021_a_virtual_machine_finds_nothing_of_its_predecessor(host: HostAgent) -> None:
    for _ in range(2):
        host.add("heir", "talking-vm", mem=32, state=Wish.STOPPED)
        disk = contents(host.disk("heir"))
        assert disk[:SECTOR] == CONTENTS["talking-vm"][1][:SECTOR], "as the image has it"
        assert len(disk) == DISK
        assert said(host, "heir") == b""
        host.wish("heir", Wish.RUNNING)
        eventually("the guest has written", lambda: DONE.encode() in said(host, "heir"))
        assert contents(host.disk("heir")).startswith(SECRET)
        disks = host.disk("heir").parent
        host.remove("heir")
        assert list(disks.iterdir()) == []


def test_ossa_2013_021_a_container_finds_nothing_of_its_predecessor(host: HostAgent) -> None:
    for _ in range(2):
        host.run("heir", "remembering-container", mem=32)
        eventually("the machine is ready", lambda: b"ready" in said(host, "heir"))
        assert SECRET not in said(host, "heir")
        assert b"ls: /secret: No such file" in said(host, "heir")
        assert b"/data/secret" not in said(host, "heir")
        place = "{{range .Mounts}}{{.Source}}{{end}}"
        volume = Path(output("docker", "inspect", "-f", place, host.daemon_name("heir")))
        assert (volume / "secret").exists()
        host.remove("heir")
        assert not volume.exists()
