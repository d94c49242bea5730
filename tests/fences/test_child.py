"""A bounded child process: its words, its end, and the end of all that it started."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest
from tests.cloud.hosts import wait_until

from garbi.base.child import Cancelled, Ended, run

LONG_S = 600.0


def shell(
    script: str, limit_s: float = LONG_S, cancelled: threading.Event | None = None, max_bytes: int = 1000
) -> Ended:
    return run(["sh", "-c", script], limit_s, cancelled or threading.Event(), max_bytes=max_bytes)


def test_a_program_is_told_by_its_status_its_output_and_its_complaints() -> None:
    ended = shell("echo yes; echo no >&2; printf more; exit 3")
    assert (ended.code, ended.output, ended.errors) == (3, "yes\nmore\n", "no\n")


def test_a_program_is_not_waited_for_once_it_has_ended_however_long_others_hold_its_streams(tmp_path: Path) -> None:
    escaped = tmp_path / "escaped"
    daemon = f"setsid sh -c 'echo $$ >{escaped}; exec sleep {LONG_S}' &"
    try:
        ended = shell(f"{daemon} until [ -s {escaped} ]; do :; done; echo off")
        assert ended.output == "off\n"
    finally:
        os.kill(int(escaped.read_text()), signal.SIGKILL)


def test_a_program_that_hangs_ends_at_its_limit_with_its_children(tmp_path: Path) -> None:
    with pytest.raises(Cancelled, match=r"did not end within 0\.5 s"):
        shell(f"sleep {LONG_S} & echo $! >{tmp_path}/child; sleep {LONG_S}", limit_s=0.5)
    wait_until(lambda: not is_alive(int((tmp_path / "child").read_text() or 0)))


def test_a_program_that_is_cancelled_ends_at_once_with_its_children(tmp_path: Path) -> None:
    cancelled = threading.Event()
    threading.Thread(target=lambda: (wait_until((tmp_path / "child").exists), cancelled.set())).start()
    with pytest.raises(Cancelled, match="it was cancelled"):
        shell(f"sleep {LONG_S} & echo $! >{tmp_path}/child; wait", cancelled=cancelled)
    wait_until(lambda: not is_alive(int((tmp_path / "child").read_text() or 0)))


def test_what_a_program_says_without_end_fills_no_memory() -> None:
    with pytest.raises(Cancelled):
        shell("yes & yes >&2", limit_s=0.5, max_bytes=100)
    ended = shell("yes | head -c 9000000; yes | head -c 900000 >&2", max_bytes=99)
    assert len(ended.output) < 200
    assert len(ended.errors) <= 64 << 10


def test_a_program_sees_the_environment_that_it_was_given_and_no_other() -> None:
    ended = run(["/usr/bin/env"], LONG_S, threading.Event(), environment={"LC_ALL": "C"})
    assert ended.output == "LC_ALL=C\n"


def test_a_program_that_is_not_there_is_told_as_the_system_does(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        run([str(tmp_path / "none")], LONG_S, threading.Event())


def test_nothing_is_left_open_by_many_runs() -> None:
    run(["true"], LONG_S, threading.Event())
    before = set(os.listdir("/proc/self/fd"))
    for _ in range(5):
        run(["true"], LONG_S, threading.Event())
    assert len(set(os.listdir("/proc/self/fd"))) <= len(before)


def is_alive(pid: int) -> bool:
    """Whether a process runs: one that waits to be waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
