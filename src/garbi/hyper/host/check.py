"""What one check of `hyper doctor` answers, and how checks ask programs."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from garbi.hyper.host.programs import find_program


class CheckStatus(StrEnum):
    """`warn`: machines run, but slower or less protected. `fail`: something that hyper offers does not work."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the doctor: what was found and, unless it is ok, how to mend it."""

    name: str
    status: CheckStatus
    found: str
    mend: str = ""


@dataclass(frozen=True, slots=True)
class DoctorSettings:
    """Where to look."""

    data_dir: Path = Path("/var/lib/garbi/hyper")
    docker_socket: Path = Path("/var/run/docker.sock")
    libvirt_uri: str = "qemu:///system"
    timeout_s: float = 5.0


@dataclass(frozen=True, slots=True)
class Finding:
    """A check's answer before it has a name."""

    status: CheckStatus
    found: str
    mend: str = ""


Examine = Callable[[DoctorSettings], Finding | None]
"""A check; None where it has nothing to say, because what it looks at is not there and another check says so."""


def ok(found: str) -> Finding:
    return Finding(CheckStatus.OK, found)


def warn(found: str, mend: str) -> Finding:
    return Finding(CheckStatus.WARN, found, mend)


def fail(found: str, mend: str) -> Finding:
    return Finding(CheckStatus.FAIL, found, mend)


def run_program(words: Sequence[str], script: str = "", timeout_s: float = 4.0) -> tuple[int, str]:
    """Run a program; return its exit code and what it said, on one line. 127 when it is missing, 124 when it takes too long."""
    path = find_program(words[0])
    if path is None:
        return 127, f"{words[0]} is not installed"
    try:
        answer = subprocess.run(
            [path, *words[1:]], input=script, capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired:
        return 124, f"{words[0]} does not answer"
    except OSError as error:
        return 126, f"{words[0]} cannot be run: {error.strerror}"
    said = answer.stdout.strip() or answer.stderr.strip()
    return answer.returncode, said.splitlines()[0][:200] if said else ""
