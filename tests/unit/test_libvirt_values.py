"""What the libvirt driver decides from values alone: subnets, marks, states, figures, headers of images, DHCP messages."""

from __future__ import annotations

import struct
from ipaddress import IPv4Network
from pathlib import Path

import libvirt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from garbi.base.errors import ImageRejected
from garbi.hyper.drivers.libvirt.capabilities import extensions
from garbi.hyper.drivers.libvirt.content import check_content
from garbi.hyper.drivers.libvirt.events import LifecycleEvent
from garbi.hyper.drivers.libvirt.figures import read_figures
from garbi.hyper.drivers.libvirt.leases import release_message
from garbi.hyper.drivers.libvirt.marks import Marks
from garbi.hyper.drivers.libvirt.network import SPACE, free_subnets, subnets_of_routes
from garbi.hyper.drivers.libvirt.states import CRASHED, KILLED, cause_in, condition_of, failure_of
from garbi.hyper.drivers.protocol import Condition, ImageFile
from garbi.hyper.model.image import ImageType

CLUSTER = "0123456789abcdef0123456789abcdef"
MIB = 1 << 20

networks = st.builds(
    lambda address, length: IPv4Network((address & ~((1 << (32 - length)) - 1), length)),
    st.integers(0, 2**32 - 1),
    st.integers(8, 32),
)


@given(st.lists(networks, max_size=8), st.integers(0, 2**32 - 1))
def test_a_free_subnet_lies_in_our_space_and_overlaps_nothing_taken(taken: list[IPv4Network], start: int) -> None:
    for subnet in free_subnets(taken, start, 3):
        assert subnet.subnet_of(SPACE)
        assert subnet.prefixlen == 24
        assert not any(subnet.overlaps(network) for network in taken)


def test_no_subnet_is_free_when_the_whole_space_is_taken() -> None:
    assert free_subnets([IPv4Network("10.0.0.0/8")], 5, 3) == []


def test_agents_begin_to_look_for_a_subnet_at_different_places() -> None:
    assert free_subnets([], 1, 1) != free_subnets([], 2, 1)


def test_routes_of_the_host_are_read_without_the_default_one(tmp_path: Path) -> None:
    table = tmp_path / "route"
    table.write_text(
        "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
        "eth0\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
        "eth0\t0001A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
        "br0\t0000400A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n"
    )
    assert subnets_of_routes(table) == [IPv4Network("192.168.1.0/24"), IPv4Network("10.64.0.0/16")]


def test_a_domain_is_ours_by_name_and_uuid_together() -> None:
    ours, other = Marks(CLUSTER), Marks("0123456789abcdefffffffffffffffff")
    assert ours.machine_of(ours.domain_name("web"), ours.domain_uuid("web")) == "web"
    assert ours.domain_name("web") == other.domain_name("web")
    assert ours.machine_of(other.domain_name("web"), other.domain_uuid("web")) is None
    assert ours.machine_of(ours.domain_name("webx"), ours.domain_uuid("web")) is None
    assert ours.machine_of("web", ours.domain_uuid("web")) is None
    assert len(ours.bridge) <= 15


def test_an_end_in_order_is_no_failure_and_a_crash_is_one() -> None:
    off = libvirt.VIR_DOMAIN_SHUTOFF
    for reason in (libvirt.VIR_DOMAIN_SHUTOFF_DESTROYED, libvirt.VIR_DOMAIN_SHUTOFF_SHUTDOWN, 0):
        assert failure_of(off, reason, KILLED) == ""
    assert failure_of(off, libvirt.VIR_DOMAIN_SHUTOFF_CRASHED, None)
    assert failure_of(off, libvirt.VIR_DOMAIN_SHUTOFF_CRASHED, KILLED) == KILLED
    assert failure_of(off, libvirt.VIR_DOMAIN_SHUTOFF_FAILED, None)
    assert failure_of(libvirt.VIR_DOMAIN_CRASHED, 0, None) == CRASHED
    assert failure_of(libvirt.VIR_DOMAIN_RUNNING, 0, KILLED) == ""


def test_a_domain_that_is_being_started_is_not_taken_for_a_paused_one() -> None:
    paused = libvirt.VIR_DOMAIN_PAUSED
    assert condition_of(paused, libvirt.VIR_DOMAIN_PAUSED_STARTING_UP) is Condition.RUNNING
    assert condition_of(paused, libvirt.VIR_DOMAIN_PAUSED_USER) is Condition.PAUSED
    assert condition_of(libvirt.VIR_DOMAIN_SHUTOFF, 0) is Condition.STOPPED


def test_events_tell_a_guests_crash_from_a_killed_process() -> None:
    stopped = libvirt.VIR_DOMAIN_EVENT_STOPPED
    assert cause_in(LifecycleEvent("m", libvirt.VIR_DOMAIN_EVENT_CRASHED, 0)) == CRASHED
    assert cause_in(LifecycleEvent("m", stopped, libvirt.VIR_DOMAIN_EVENT_STOPPED_FAILED)) == KILLED
    assert cause_in(LifecycleEvent("m", stopped, libvirt.VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN)) is None


def test_figures_add_up_all_disks_and_cards_and_believe_the_guest_about_its_memory() -> None:
    stats = {
        "cpu.time": 2_500_000_000,
        "balloon.current": 262144,
        "balloon.rss": 400000,
        "block.count": 2,
        "block.0.rd.bytes": 10,
        "block.1.rd.bytes": 5,
        "block.0.wr.bytes": 7,
        "net.count": 1,
        "net.0.rx.bytes": 3,
        "net.0.tx.bytes": 4,
    }
    figures = read_figures(stats)
    assert (figures.cpu_seconds, figures.memory_bytes) == (2.5, 256 * MIB)
    assert (figures.disk_read_bytes, figures.disk_written_bytes) == (15, 7)
    assert (figures.network_received_bytes, figures.network_sent_bytes) == (3, 4)
    told = stats | {"balloon.available": 250000, "balloon.unused": 150000}
    assert read_figures(told).memory_bytes == 100000 * 1024


def test_a_release_names_guest_address_and_server() -> None:
    message = release_message("10.64.0.1", "52:54:00:ab:cd:ef", "10.64.0.9")
    assert message[:4] == bytes([1, 1, 6, 0])
    assert message[12:16] == bytes([10, 64, 0, 9])
    assert message[28:34] == bytes.fromhex("525400abcdef")
    assert message[236:249] == b"\x63\x82\x53\x63\x35\x01\x07\x36\x04\x0a\x40\x00\x01"
    assert len(message) == 300


def qcow2_header(size: int = MIB, version: int = 3, backing: int = 0, features: int = 0) -> bytes:
    start = struct.pack(">4sIQIIQ", b"QFI\xfb", version, backing, 0, 16, size)
    return start.ljust(72, b"\0") + struct.pack(">Q", features) + bytes(24)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "too short"),
        (b"\x7fELF".ljust(200), "not qcow2"),
        (qcow2_header(version=9), "not qcow2"),
        (qcow2_header(backing=104), "another file"),
        (qcow2_header(features=4), "another file"),
        (qcow2_header(size=2 * MIB), "unfolds"),
    ],
)
def test_content_that_is_no_qcow2_of_its_own_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "image"
    path.write_bytes(content)
    with pytest.raises(ImageRejected, match=words):
        check_content(ImageFile("0" * 64, ImageType.QCOW2, path, MIB))


def test_sound_content_passes_and_missing_content_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(qcow2_header())
    check_content(ImageFile("0" * 64, ImageType.QCOW2, path, MIB))
    with pytest.raises(ImageRejected, match="cannot be read"):
        check_content(ImageFile("0" * 64, ImageType.RAW, tmp_path / "nothing", MIB))


def test_the_extensions_of_a_processor_are_read_from_its_flags(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nflags\t\t: fpu vmx sse2\n\nprocessor\t: 1\nflags\t\t: fpu\n")
    assert extensions(cpuinfo) == {"fpu", "vmx", "sse2"}
    assert extensions(tmp_path / "nothing") == set()
