"""Finds and runs the programs that make the tiny images; a missing one is an error that names its package."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from garbi.base.errors import DriverFailed, DriverUnavailable

PACKAGES: Mapping[str, str] = {
    "syslinux": "syslinux",
    "mcopy": "mtools",
    "mkfs.vfat": "dosfstools",
    "qemu-img": "qemu-utils",
    "dpkg-deb": "dpkg",
}
"""What the disk image is made with, and where each program comes from in Debian and Ubuntu."""

_PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin", "/usr/bin", "/bin"))
_TIMEOUT_S = 60


def tool(program: str, package: str) -> str:
    """The path of a program; raises DriverUnavailable naming the package to install."""
    found = shutil.which(program, path=_PATH)
    if found is None:
        raise missing([package])
    return found


def require_tools() -> dict[str, str]:
    """The path of every program of PACKAGES; raises DriverUnavailable naming all missing packages at once."""
    found = {program: shutil.which(program, path=_PATH) for program in PACKAGES}
    absent = [PACKAGES[program] for program, path in found.items() if path is None]
    if absent:
        raise missing(absent)
    return {program: path for program, path in found.items() if path is not None}


def find_busybox() -> bytes:
    """The static busybox of this host; raises DriverUnavailable naming its package when there is none."""
    for directory in _PATH.split(os.pathsep):
        path = Path(directory) / "busybox"
        content = path.read_bytes() if path.is_file() else b""
        if content.startswith(b"\x7fELF") and b"/ld-linux" not in content[:4096]:
            return content
    raise missing(["busybox-static"])


def missing(packages: list[str]) -> DriverUnavailable:
    """The error that says which packages to install."""
    names = " ".join(packages)
    detail = f"the tiny images cannot be built: {names} missing (apt-get install {names})"
    return DriverUnavailable(detail, packages=packages)


def run(command: list[str], cwd: Path | None = None, timeout_s: float = _TIMEOUT_S, check: bool = True) -> str:
    """Run a program and return its output; raises DriverFailed with its own last words when it fails."""
    environment = {**os.environ, "LC_ALL": "C", "PATH": _PATH, "SOURCE_DATE_EPOCH": "1700000000"}
    try:
        result = subprocess.run(
            command,
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DriverFailed(f"{Path(command[0]).name} did not work: {error}") from error
    if check and result.returncode != 0:
        words = (result.stderr or result.stdout).strip().splitlines()
        last = " / ".join(words[-3:])[:500]
        raise DriverFailed(f"{Path(command[0]).name} ended with code {result.returncode}: {last}")
    return result.stdout
