"""What the host says of itself, and what it makes of a processor and a KVM device."""

from __future__ import annotations

import os
import socket
from ipaddress import ip_address
from pathlib import Path

import pytest

from garbi.hyper.host import capacity
from garbi.hyper.host.report import report_host
from garbi.hyper.host.sockets import Use, local_ports, owner_of, socket_inodes
from garbi.hyper.host.virtualisation import Accelerator, detect_virtualisation
from garbi.hyper.model.machine import Protocol


def cpuinfo(directory: Path, flags: str) -> Path:
    path = directory / "cpuinfo"
    path.write_text(f"processor\t: 0\nflags\t\t: fpu vme {flags} sse\n\nprocessor\t: 1\nflags\t\t: fpu\n")
    return path


@pytest.mark.parametrize("flag", ["vmx", "svm"])
def test_a_processor_with_virtualisation_but_no_device_interprets_guests(tmp_path: Path, flag: str) -> None:
    seen = detect_virtualisation(cpuinfo(tmp_path, flag), tmp_path / "kvm", "x86_64")
    assert (seen.accelerator, seen.cpu_flag, seen.kvm_device) == (Accelerator.TCG, flag, False)
    assert "kvm is missing" in seen.reason


def test_a_device_without_virtualisation_of_the_processor_is_not_believed(tmp_path: Path) -> None:
    device = tmp_path / "kvm"
    device.touch()
    seen = detect_virtualisation(cpuinfo(tmp_path, "hypervisor"), device, "x86_64")
    assert (seen.accelerator, seen.nested, seen.kvm_device) == (Accelerator.TCG, True, True)
    assert "to this virtual machine" in seen.reason


def test_a_device_that_is_no_kvm_is_not_believed(tmp_path: Path) -> None:
    device = tmp_path / "kvm"
    device.touch()
    seen = detect_virtualisation(cpuinfo(tmp_path, "vmx"), device, "x86_64")
    assert seen.accelerator is Accelerator.TCG
    assert "makes no virtual machine" in seen.reason


def test_a_host_without_cpuinfo_still_gets_an_answer(tmp_path: Path) -> None:
    assert detect_virtualisation(tmp_path / "none", tmp_path / "kvm", "aarch64").accelerator is Accelerator.TCG


def test_the_report_says_what_the_kernel_says(tmp_path: Path) -> None:
    report = report_host(tmp_path / "not" / "made" / "yet")
    kernels, _, first = report.boot_id.partition(".")
    assert kernels == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert first.isdecimal()
    assert report.hostname == socket.gethostname()
    assert report.kernel == os.uname().release
    assert 1 <= report.cpus <= (os.cpu_count() or 1)
    assert 0 < report.memory.available_mib <= report.memory.total_mib
    assert 0 <= report.disk.free_bytes <= report.disk.total_bytes
    assert {"garbi", "python", "os"} <= report.versions.keys()
    assert all(report.versions.values())


def test_memory_is_told_in_mib() -> None:
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert capacity.memory_total_mib() == pytest.approx(pages / 2**20, rel=0.02)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "0.0.0.0", "::"])
@pytest.mark.parametrize("protocol", list(Protocol))
def test_a_socket_is_found_with_its_address_its_use_and_its_process(address: str, protocol: Protocol) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM if protocol is Protocol.TCP else socket.SOCK_DGRAM) as opened:
        opened.bind((address, 0))
        if protocol is Protocol.TCP:
            opened.listen()
        inode = os.fstat(opened.fileno()).st_ino
        (found,) = [entry for entry in local_ports(protocol) if entry.inode == inode]
        assert found.port == opened.getsockname()[1]
        assert found.address == ip_address(address)
        assert found.use is (Use.LISTENING if protocol is Protocol.TCP else Use.BOUND)
        assert inode in socket_inodes(os.getpid())
        owner = owner_of([inode])
    assert owner is not None
    assert owner.pid == os.getpid()


def test_a_socket_that_nobody_has_has_no_owner() -> None:
    assert owner_of([0]) is None
    assert owner_of([]) is None
    assert socket_inodes(2**22 + 1) == set()
