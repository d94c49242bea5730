"""Where the checks of `hyper doctor` look."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from garbi.base.checks import Finding


@dataclass(frozen=True, slots=True)
class DoctorSettings:
    """Where to look."""

    data_dir: Path = Path("/var/lib/garbi/hyper")
    docker_socket: Path = Path("/var/run/docker.sock")
    libvirt_uri: str = "qemu:///system"
    timeout_s: float = 5.0


Examine = Callable[[DoctorSettings], Finding | None]
"""A check; None where it has nothing to say, because what it looks at is not there and another check says so."""
