"""What one check of a doctor answers, how checks ask programs, and how many are done at the same time."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from garbi.base.programs import find_program

Settings = TypeVar("Settings")


class CheckStatus(StrEnum):
    """`warn`: things work, but slower or less protected. `fail`: something that is offered does not work."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Check:
    """One line of a doctor: what was found and, unless it is ok, how to mend it."""

    name: str
    status: CheckStatus
    found: str
    mend: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """A check's answer before it has a name."""

    status: CheckStatus
    found: str
    mend: str = ""


def ok(found: str) -> Finding:
    """Nothing to mend."""
    return Finding(CheckStatus.OK, found)


def warn(found: str, mend: str) -> Finding:
    """It works, but could be better."""
    return Finding(CheckStatus.WARN, found, mend)


def fail(found: str, mend: str) -> Finding:
    """It does not work."""
    return Finding(CheckStatus.FAIL, found, mend)


def run_checks(
    settings: Settings, checks: Mapping[str, Callable[[Settings], Finding | None]], timeout_s: float
) -> list[Check]:
    """Do all checks at the same time; none can stop or delay another. Never raises, never takes longer than `timeout_s`.

    A check answers None where it has nothing to say, because what it looks at is not there and another check says so.
    """
    findings: dict[str, Finding | None] = {}
    threads = {
        name: threading.Thread(target=_examine, args=(name, examine, settings, findings), daemon=True)
        for name, examine in checks.items()
    }
    for thread in threads.values():
        thread.start()
    deadline = time.monotonic() + timeout_s
    for name, thread in threads.items():
        thread.join(max(0.0, deadline - time.monotonic()))
        findings.setdefault(name, _no_answer(timeout_s))
    named = ((name, findings[name]) for name in checks)
    return [Check(name, finding.status, finding.found, finding.mend) for name, finding in named if finding]


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


def _examine(
    name: str,
    examine: Callable[[Settings], Finding | None],
    settings: Settings,
    findings: dict[str, Finding | None],
) -> None:
    try:
        finding = examine(settings)
    except Exception as error:  # one check that fails must not stop the others
        finding = fail(
            f"the check itself failed: {type(error).__name__}: {error}", "please report this as a bug of Garbi"
        )
    findings.setdefault(name, finding)


def _no_answer(timeout_s: float) -> Finding:
    return fail(f"no answer within {timeout_s:g} s", "find out what hangs: ps -ef, journalctl -b")
