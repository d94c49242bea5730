"""`hyper doctor`: whether this host is fit to run machines, and how to mend what is not. Needs no agent."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from garbi.base.checks import Check, CheckStatus
from garbi.base.checks import run_checks as run
from garbi.hyper.host import daemon_checks, system_checks
from garbi.hyper.host.check import DoctorSettings, Examine

__all__ = ["CHECKS", "Check", "CheckStatus", "DoctorSettings", "checks_of", "run_checks"]

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

OF_WITNESS = ("rights", "disk", "exposed-daemons")
"""The checks that are about every host, whatever it carries."""

WITNESS_MARK = "witness"
"""The file in the data directory of an agent that says that its node carries no machines."""

DATABASE = "hyper.db"


def checks_of(settings: DoctorSettings, *, witness: bool = False) -> Mapping[str, Examine]:
    """The checks that the host of `settings` needs: one that is a `witness`, by that word or by its mark, misses no engine."""
    needed = OF_WITNESS if witness or _is_witness(settings.data_dir) else CHECKS
    return {name: CHECKS[name] for name in needed}


def run_checks(settings: DoctorSettings | None = None, checks: Mapping[str, Examine] = CHECKS) -> list[Check]:
    """Do all checks at the same time. Never raises, never takes longer than `timeout_s`."""
    settings = settings or DoctorSettings()
    return run(settings, checks, settings.timeout_s)


def _is_witness(data_dir: Path) -> bool:
    """Whether the agent of a data directory carries no machines; where none is there, all that are beside it."""
    databases = [data_dir / DATABASE] if (data_dir / DATABASE).exists() else [*data_dir.parent.glob(f"*/{DATABASE}")]
    return bool(databases) and all(each.with_name(WITNESS_MARK).exists() for each in databases)
