"""Decides by what a guest's processor is made: KVM where it really works, translation (TCG) elsewhere; for driver and host.

That `/dev/kvm` exists, and that libvirt lists KVM, is not enough: some kernels offer a KVM that boots no ordinary guest. The
processor must have its virtualisation extension as well.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import libvirt

from garbi.hyper.drivers.libvirt.connection import Connection

CPUINFO = Path("/proc/cpuinfo")
_EXTENSIONS = {"vmx", "svm"}
_TRANSLATED = "maximum"  # libvirt's own default, qemu64, is too old for guests that want x86-64-v2


@dataclass(frozen=True, slots=True)
class Virtualisation:
    """How guests run: libvirt's domain type, the guest's architecture, the processor mode (None: the hypervisor's default)."""

    domain_type: str
    why: str
    arch: str = "x86_64"
    machine: str | None = "pc"
    cpu_mode: str | None = None

    def details(self) -> Mapping[str, str]:
        """What users are told."""
        kind = {"kvm": "kvm", "qemu": "tcg"}.get(self.domain_type, self.domain_type)
        return {"virtualisation": kind, "why": self.why}


def find_virtualisation(connection: Connection, live: Any) -> Virtualisation:
    """Find out what the host behind the connection can do; raises libvirtError when it does not answer."""
    if connection.hypervisor == "test":
        return Virtualisation("test", "libvirt's own mock: nothing really runs", arch="i686", machine=None)
    if connection.local and not (extensions() & _EXTENSIONS):
        return Virtualisation("qemu", "the processor shows neither vmx nor svm", cpu_mode=_TRANSLATED)
    try:
        live.getDomainCapabilities(None, "x86_64", "pc", "kvm")
    except libvirt.libvirtError as error:
        if connection.is_broken(error):
            raise
        why = f"libvirt offers no KVM: {error.get_error_message()}"
        return Virtualisation("qemu", why, cpu_mode=_TRANSLATED)
    shown = ", ".join(sorted(extensions() & _EXTENSIONS)) if connection.local else "the word of its libvirt"
    return Virtualisation("kvm", f"the host offers KVM by {shown}", cpu_mode="host-passthrough")


def extensions(cpuinfo: Path = CPUINFO) -> set[str]:
    """The flags of the first processor; empty when the host does not tell."""
    try:
        text = cpuinfo.read_text(encoding="ascii", errors="replace")
    except OSError:
        return set()
    flags = re.search(r"^flags\s*:\s*(.*)$", text, re.MULTILINE)
    return set(flags.group(1).split()) if flags else set()
