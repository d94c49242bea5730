"""Whether this host is going down, as systemd says."""

from __future__ import annotations

from garbi.base.checks import run_program

_STOPPING = "stopping"
_TIMEOUT_S = 5


def is_going_down() -> bool:
    """Whether a shutdown or a reboot of this host has begun; False where no systemd runs it."""
    _, said = run_program(["systemctl", "is-system-running"], timeout_s=_TIMEOUT_S)
    return said.strip() == _STOPPING
