"""Whether this host can run guests on its processor (KVM) or must interpret them (TCG), and why; without any hypervisor."""

from __future__ import annotations

import fcntl
import os
import platform
from pathlib import Path

from garbi.hyper_api.host import Accelerator, Virtualisation

_KVM_GET_API_VERSION = 0xAE00
_KVM_CREATE_VM = 0xAE01
_KVM_API_VERSION = 12
_FLAGS = ("vmx", "svm")


def detect_virtualisation(
    cpuinfo: Path = Path("/proc/cpuinfo"), device: Path = Path("/dev/kvm"), machine: str | None = None
) -> Virtualisation:
    """Look at the processor and at the KVM device, as the user who runs this. Never raises."""
    flags = _flags(cpuinfo)
    flag = next((name for name in _FLAGS if name in flags), "")
    nested = "hypervisor" in flags
    obstacle = _obstacle(flag, nested, device, machine or platform.machine())
    if obstacle:
        return Virtualisation(Accelerator.TCG, obstacle, flag, device.exists(), nested)
    where = "nested: this host is a virtual machine itself" if nested else "on the processor of this host"
    return Virtualisation(Accelerator.KVM, where, flag, device.exists(), nested)


def _obstacle(flag: str, nested: bool, device: Path, machine: str) -> str:
    if machine in ("x86_64", "i686") and not flag:
        return "the processor offers neither vmx nor svm" + (" to this virtual machine" if nested else "")
    if not device.exists():
        return f"{device} is missing: the kernel module is not loaded, or the firmware has virtualisation switched off"
    return _try_device(device)


def _try_device(device: Path) -> str:
    try:
        descriptor = os.open(device, os.O_RDWR | os.O_CLOEXEC)
    except PermissionError:
        return ""  # the daemon that runs the guests may have the right that this process lacks
    except OSError as error:
        return f"{device} cannot be opened: {error.strerror}"
    try:
        version = fcntl.ioctl(descriptor, _KVM_GET_API_VERSION, 0)
        if version != _KVM_API_VERSION:
            return f"{device} speaks version {version} of KVM, not {_KVM_API_VERSION}"
        os.close(fcntl.ioctl(descriptor, _KVM_CREATE_VM, 0))
    except OSError as error:
        return f"{device} makes no virtual machine: {error.strerror}"
    finally:
        os.close(descriptor)
    return ""


def _flags(cpuinfo: Path) -> frozenset[str]:
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return frozenset()
    line = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return frozenset(line.partition(":")[2].split())
