"""`hyper doctor`: whether this host is fit to run machines, and how to mend what is not. Needs no agent."""

from __future__ import annotations

from collections.abc import Mapping

from garbi.base.checks import Check, CheckStatus
from garbi.base.checks import run_checks as run
from garbi.hyper.host import daemon_checks, system_checks
from garbi.hyper.host.check import DoctorSettings, Examine

__all__ = ["CHECKS", "Check", "CheckStatus", "DoctorSettings", "run_checks"]

CHECKS: Mapping[str, Examine] = {
    "processor": system_checks.check_processor,
    "kvm-device": system_checks.check_kvm_device,
    "rights": system_checks.check_rights,
    "disk": system_checks.check_disk,
    "docker": daemon_checks.check_docker,
    "docker-runc": daemon_checks.check_runc,
    "docker-live-restore": daemon_checks.check_live_restore,
    "libvirt": daemon_checks.check_libvirt,
    "libvirt-python": daemon_checks.check_libvirt_binding,
    "qemu": daemon_checks.check_qemu,
    "qemu-img": daemon_checks.check_qemu_img,
    "exposed-daemons": daemon_checks.check_exposure,
    "nftables": system_checks.check_nftables,
    "bridge": system_checks.check_bridge,
    "forwarding": system_checks.check_forwarding,
    "dnsmasq": system_checks.check_dnsmasq,
    "sandbox": system_checks.check_sandbox,
}
"""Every check by the name that users see, in the order in which they are shown."""


def run_checks(settings: DoctorSettings | None = None, checks: Mapping[str, Examine] = CHECKS) -> list[Check]:
    """Do all checks at the same time. Never raises, never takes longer than `timeout_s`."""
    settings = settings or DoctorSettings()
    return run(settings, checks, settings.timeout_s)
