"""`hyper doctor`: whether this host is fit to run machines, and how to mend what is not. Needs no agent."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping

from garbi.hyper.host import daemon_checks, system_checks
from garbi.hyper.host.check import Check, CheckStatus, DoctorSettings, Examine, Finding, fail

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
    """Do all checks at the same time; none can stop or delay another. Never raises, never takes longer than `timeout_s`."""
    settings = settings or DoctorSettings()
    findings: dict[str, Finding | None] = {}
    threads = {
        name: threading.Thread(target=_examine, args=(name, examine, settings, findings), daemon=True)
        for name, examine in checks.items()
    }
    for thread in threads.values():
        thread.start()
    deadline = time.monotonic() + settings.timeout_s
    for name, thread in threads.items():
        thread.join(max(0.0, deadline - time.monotonic()))
        findings.setdefault(name, _no_answer(settings))
    named = ((name, findings[name]) for name in checks)
    return [Check(name, finding.status, finding.found, finding.mend) for name, finding in named if finding]


def _examine(name: str, examine: Examine, settings: DoctorSettings, findings: dict[str, Finding | None]) -> None:
    try:
        finding = examine(settings)
    except Exception as error:  # one check that fails must not stop the others
        finding = fail(
            f"the check itself failed: {type(error).__name__}: {error}", "please report this as a bug of Garbi"
        )
    findings.setdefault(name, finding)


def _no_answer(settings: DoctorSettings) -> Finding:
    return fail(f"no answer within {settings.timeout_s:g} s", "find out what hangs: ps -ef, journalctl -b")
