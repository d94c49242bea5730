"""Threats A: a guest makes its disk look like a file of another format, one that leads to files of the host."""

from __future__ import annotations

import json
import os
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.api.conftest import Server
from tests.host.agent.host_agent import HostAgent, eventually, output
from tests.security.conftest import CANARY
from tests.security.guest_programs import DISK, DONE, SECTOR, writer

from garbi.hyper.model.image import ImageType
from garbi.hyper.model.machine import State, Wish

pytestmark = [pytest.mark.root, pytest.mark.libvirt]

FAST = {"type": "libvirt", "mem": 32}


def qcow2_header(path: Path) -> bytes:
    """An empty disk whose content is that of a file of the host (CVE-2016-2140)."""
    name = str(path).encode()
    fixed = struct.pack(">4sIQIIQIIQQIIQ", b"QFI\xfb", 2, 72, len(name), 16, DISK, 0, 1, 0x30000, 0x10000, 1, 0, 0)
    return (fixed + name).ljust(SECTOR, b"\0")


def qcow2_data_header(path: Path) -> bytes:
    """The same by an external data file (CVE-2024-32498)."""
    name = str(path).encode()
    fixed = struct.pack(">4sIQIIQIIQQIIQ", b"QFI\xfb", 3, 0, 0, 16, DISK, 0, 1, 0x30000, 0x10000, 1, 0, 0)
    more = struct.pack(">QQQII", 1 << 2, 0, 1 << 1, 4, 104)
    extension = struct.pack(">II", 0x44415441, len(name)) + name.ljust(-(-len(name) // 8) * 8, b"\0")
    return (fixed + more + extension + bytes(8)).ljust(SECTOR, b"\0")


def vmdk_descriptor(path: Path) -> bytes:
    """The same as a flat VMDK (CVE-2022-47951)."""
    text = (
        f'# Disk DescriptorFile\nversion=1\nCID=1\ncreateType="monolithicFlat"\nRW {DISK // SECTOR} FLAT "{path}" 0\n'
    )
    return text.encode().ljust(SECTOR, b"\0")


HEADERS = {"qcow2": qcow2_header, "qcow2-data": qcow2_data_header, "vmdk": vmdk_descriptor}


@pytest.fixture
def attacker(host: HostAgent, canary: Path) -> Iterator[str]:
    """The name of a raw image whose guest writes the header of a qcow2 file over its own disk."""
    host.agent.images.add("attacker", ImageType.RAW, [writer(qcow2_header(canary))])
    yield "attacker"
    host.agent.images.remove("attacker")


def test_the_headers_would_work_where_a_tool_guesses_the_format(canary: Path, tmp_path: Path) -> None:
    naive = tmp_path / "disk"
    naive.write_bytes(qcow2_header(canary) + bytes(DISK - SECTOR))
    leaked = tmp_path / "leaked"
    command = ["qemu-img", "convert", "-f", "qcow2", "-O", "raw", "--", str(naive), str(leaked)]
    subprocess.run(command, check=True, capture_output=True)
    assert leaked.read_bytes().startswith(CANARY)


@pytest.mark.parametrize("full_copy", [False, True], ids=["overlay", "full-copy"])
def test_cve_2016_2140_a_guest_writes_a_hostile_header_over_its_disk_and_every_verb_follows(
    host: HostAgent, front: Server, canary: Path, attacker: str, full_copy: bool
) -> None:
    before = os.stat(canary)
    host.run("attacker", attacker, full_copy=full_copy, **FAST)
    eventually("the guest has written", lambda: DONE.encode() in host.agent.machines.console_log("attacker", 9999))
    assert first_sector(host.disk("attacker")) == qcow2_header(canary)
    for wish in (Wish.PAUSED, Wish.RUNNING, Wish.STOPPED):
        host.wish("attacker", wish)
        assert_unread(host, front, canary)
    for name, header in ({} if full_copy else HEADERS).items():
        write_first_sector(host.disk("attacker"), header(canary))
        assert host.wish("attacker", Wish.RUNNING).state is State.RUNNING, name
        assert_unread(host, front, canary)
        assert host.wish("attacker", Wish.STOPPED).state is State.STOPPED, name
    host.remove("attacker")
    after = os.stat(canary)
    unchanged = ("st_uid", "st_gid", "st_mode", "st_ctime_ns", "st_size")
    assert [name for name in unchanged if getattr(before, name) != getattr(after, name)] == []


def first_sector(disk: Path) -> bytes:
    """What the guest sees at the start of its disk."""
    return contents(disk)[:SECTOR]


def contents(disk: Path) -> bytes:
    """What the guest sees on its disk."""
    copy = disk.with_suffix(".copy")
    command = ["qemu-img", "convert", "-U", "-f", "qcow2", "-O", "raw", "--", str(disk), str(copy)]
    try:
        subprocess.run(command, check=True, capture_output=True)
        return copy.read_bytes()
    finally:
        copy.unlink(missing_ok=True)


def write_first_sector(disk: Path, content: bytes) -> None:
    """Do from outside, to a machine that is off, what its guest could do."""
    source = disk.with_suffix(".sector")
    source.write_bytes(content)
    try:
        command = ["qemu-io", "-f", "qcow2", "-c", f"write -s {source} 0 {SECTOR}", "--", str(disk)]
        subprocess.run(command, check=True, capture_output=True)
    finally:
        source.unlink()


def assert_unread(host: HostAgent, front: Server, canary: Path) -> None:
    """Nothing of the canary is where a user or a guest could see it, and no process of a machine has it open."""
    answers = [front.ask("GET", f"/hyper/machines/attacker{what}").body for what in ("", "/log", "/figures")]
    answers += [front.ask("GET", path).body for path in ("/hyper/machines", "/hyper/images", "/hyper/audit")]
    assert not [body for body in answers if CANARY in body]
    assert json.loads(answers[-1]) == []
    for disk in (host.data_dir / "drivers/libvirt/pool").iterdir():
        assert CANARY not in contents(disk)
    name = host.daemon_name("attacker")
    for kind in ([], ["--inactive"]):
        assert str(canary) not in output("virsh", "-c", "qemu:///system", "dumpxml", *kind, name)
    if host.state("attacker") is State.RUNNING:
        opened = Path(f"/proc/{host.pid('attacker', 'vm')}/fd").iterdir()
        assert canary not in [Path(os.readlink(each)) for each in opened]
