"""The power fence: a host is off when its program says so plainly, and whatever else a program does proves nothing."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from tests.cloud.hosts import wait_until
from tests.fences.conftest import Program
from tests.fences.nodes import a_node
from tests.fences.test_child import is_alive

from garbi.base.errors import FenceFailed, InvalidField
from garbi.iaas.fences.power import PowerFence
from garbi.iaas.fences.protocol import Proof, Scope
from garbi.iaas.settings import Settings

NODE = a_node()
LONG_S = 600.0
OBEYS = "case $1 in off) touch $here/off ;; status) if [ -e $here/off ]; then echo off; else echo on; fi ;; esac"


def fence(path: Path | str, limit_s: float = LONG_S) -> PowerFence:
    return PowerFence(str(path), limit_s, pause_s=0.05)


def prove(path: Path | str, limit_s: float = LONG_S, cancelled: threading.Event | None = None) -> Proof:
    return fence(path, limit_s).prove(NODE, cancelled or threading.Event())


def refusal(path: Path, limit_s: float = LONG_S) -> str:
    with pytest.raises(FenceFailed) as raised:
        prove(path, limit_s)
    return raised.value.detail


def test_a_host_that_is_on_is_switched_off_and_looked_at_again(program: Program) -> None:
    power = program(OBEYS)
    proof = prove(power.path)
    assert (proof.by, proof.scope) == ("power", Scope.ALL)
    assert "192.0.2.1 was switched off" in proof.words
    assert power.calls == ["status n1 192.0.2.1", "off n1 192.0.2.1", "status n1 192.0.2.1"]


def test_a_host_that_is_off_already_is_left_alone(program: Program) -> None:
    power = program("echo off")
    assert "off already" in prove(power.path).words
    assert power.calls == ["status n1 192.0.2.1"]


def test_a_host_that_goes_off_slowly_is_waited_for(program: Program) -> None:
    power = program("echo x >>$here/n; if [ $(wc -l <$here/n) -gt 6 ]; then echo off; else echo on; fi")
    prove(power.path)
    assert len(power.calls) == 7


def test_a_program_that_says_off_while_the_host_stays_on_proves_nothing(program: Program) -> None:
    said = refusal(program("case $1 in off) echo off ;; status) echo on ;; esac").path, limit_s=1.0)
    assert "asked to switch 192.0.2.1 off, and 1 s later its status is on" in said


def test_a_program_that_cannot_switch_off_is_told_at_once_with_its_words(program: Program) -> None:
    power = program('case $1 in off) echo "BMC: \033[31mno such host" >&2; exit 7 ;; status) echo on ;; esac')
    assert "could not switch 192.0.2.1 off: BMC: no such host; its status is on" in refusal(power.path)
    assert len(power.calls) == 3


def test_a_program_that_fails_but_whose_host_is_then_off_has_proven_it(program: Program) -> None:
    prove(
        program(
            "case $1 in off) touch $here/off; exit 1 ;; status) [ -e $here/off ] && echo off || echo on ;; esac"
        ).path
    )


@pytest.mark.parametrize(
    "status",
    [
        "echo maybe",
        "echo off; exit 1",
        "echo 'off on'",
        "printf 'off\\noff\\n'",
        "echo OFF",
        ":",
        "yes off",
        "echo off >&2",
    ],
)
def test_a_status_that_is_not_plainly_off_proves_nothing(program: Program, status: str) -> None:
    said = refusal(program(f"case $1 in off) ;; status) {status} ;; esac").path, limit_s=1.0)
    assert "its status is not known" in said
    assert len(said) < 2000


def test_a_program_that_hangs_is_ended_with_its_children(program: Program, tmp_path: Path) -> None:
    said = refusal(program(f"sleep {LONG_S} & echo $! >$here/child; wait").path, limit_s=1.0)
    assert "did not end within" in said
    wait_until(lambda: not is_alive(int((tmp_path / "child").read_text())))


def test_a_status_that_hangs_first_does_not_keep_the_host_from_being_switched_off(program: Program) -> None:
    power = program(f"if [ $1 = status ] && [ ! -e $here/off ]; then exec sleep {LONG_S}; fi; {OBEYS}")
    prove(power.path, limit_s=9.0)


def test_a_cancelled_fence_ends_at_once_with_what_it_started(program: Program, tmp_path: Path) -> None:
    power = program(f"sleep {LONG_S} & echo $! >$here/child; wait")
    cancelled = threading.Event()
    threading.Thread(target=lambda: (wait_until(lambda: bool(power.calls)), cancelled.set())).start()
    with pytest.raises(FenceFailed, match="it was cancelled"):
        prove(power.path, cancelled=cancelled)
    child = tmp_path / "child"
    wait_until(lambda: not child.exists() or not child.read_text() or not is_alive(int(child.read_text())))


def test_a_fence_that_waits_for_the_host_to_go_off_can_be_cancelled(program: Program) -> None:
    power = program("case $1 in off) ;; status) echo on ;; esac")
    cancelled = threading.Event()
    threading.Thread(target=lambda: (wait_until(lambda: len(power.calls) > 4), cancelled.set())).start()
    with pytest.raises(FenceFailed, match="it was cancelled"):
        prove(power.path, cancelled=cancelled)


def test_the_program_sees_no_secret_of_the_controller(
    program: Program, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GARBI_IAAS_DATABASE", "postgresql://garbi:secret@db/garbi")
    monkeypatch.setenv("LD_PRELOAD", "")
    prove(program("env >$here/env; echo off").path)
    seen = {line.partition("=")[0] for line in (tmp_path / "env").read_text().splitlines()}
    assert seen <= {"PATH", "LC_ALL", "HOME", "USER", "LANG", "TZ", "PWD", "OLDPWD", "SHLVL", "_"}


def test_without_a_program_the_fence_does_not_apply() -> None:
    assert "GARBI_IAAS_POWER_COMMAND" in (fence("").applies_to(NODE) or "")


def test_a_program_that_others_could_change_is_not_run(program: Program, tmp_path: Path) -> None:
    power = program("echo off")
    assert fence(power.path).applies_to(NODE) is None
    for mode, words in (
        (0o777, "may be written by others"),
        (0o720, "may be written by others"),
        (0o600, "not executable"),
    ):
        power.path.chmod(mode)
        assert words in (fence(power.path).applies_to(NODE) or "")
    power.path.chmod(0o700)
    os.chown(power.path, 65534, -1)
    assert "may be written by others" in (fence(power.path).applies_to(NODE) or "")
    os.chown(power.path, 0, -1)
    tmp_path.chmod(0o777)
    assert "directory" in (fence(power.path).applies_to(NODE) or "")
    assert "not the absolute path of a program" in (fence(tmp_path).applies_to(NODE) or "")
    assert "cannot be read: No such file" in (fence(tmp_path / "none").applies_to(NODE) or "")
    assert power.calls == []


def test_a_program_that_cannot_be_started_proves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "power"
    path.write_text("#!/nonexistent/interpreter\n")
    path.chmod(0o700)
    assert "cannot be run: No such file" in refusal(path)


def test_a_relative_program_is_refused_when_the_controller_starts() -> None:
    with pytest.raises(InvalidField, match="absolute path") as raised:
        Settings.from_environment({"GARBI_IAAS_POWER_COMMAND": "bin/power"})
    assert raised.value.extra["field"] == "power_command"
