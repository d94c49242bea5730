"""Powers domains off and takes them away, also those that end or go meanwhile."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import libvirt

from garbi.hyper.drivers.libvirt.connection import found

_REMAINS = (
    libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
    | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
    | libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
    | libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
)


def power_off(domain: Any) -> None:
    """Power the domain off, if it is there and on."""
    with unless_off(domain):
        domain.destroy()


@contextlib.contextmanager
def unless_off(domain: Any) -> Iterator[None]:
    """A domain that ended, or went, while it was asked something is what was wanted."""
    try:
        yield
    except libvirt.libvirtError as error:
        code = error.get_error_code()
        if code == libvirt.VIR_ERR_NO_DOMAIN or (code == libvirt.VIR_ERR_OPERATION_INVALID and not domain.isActive()):
            return
        raise


def undefine(domain: Any) -> None:
    """Take the domain away, with all that libvirt keeps of it."""
    try:
        domain.undefineFlags(_REMAINS)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_INVALID_ARG:  # the mock knows fewer flags
            found(domain.undefine, libvirt.VIR_ERR_NO_DOMAIN)
        elif error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
            raise
