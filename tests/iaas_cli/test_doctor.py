"""`iaas doctor` on hosts that lack something: each check says what it found and how to mend it."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.fences.nodes import a_node
from tests.free_ports import free_port

from garbi.base.boot import boot_id
from garbi.base.checks import CheckStatus, Finding
from garbi.iaas import doctor
from garbi.iaas.doctor import CHECKS, examine
from garbi.iaas.model.node import NodeState
from garbi.iaas.settings import Settings

Check = Callable[[Settings], Finding | None]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "iaas")


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("garbi.base.programs._SYSTEM_PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))


def test_all_checks_are_done_and_those_that_are_not_fine_say_how_to_mend_it(settings: Settings) -> None:
    found = examine(settings, timeout_s=60)
    assert {check.name for check in found} <= set(CHECKS)
    assert all(check.found for check in found)
    assert all(check.mend for check in found if check.status is not CheckStatus.OK)
    assert all("the check itself failed" not in check.found for check in found)


@pytest.mark.usefixtures("nothing_installed")
@pytest.mark.parametrize("check", [doctor.check_ansible, doctor.check_ssh, doctor.check_sandbox, doctor.check_qemu_img])
def test_what_is_not_installed_is_named_with_how_to_get_it(settings: Settings, check: Check) -> None:
    found = check(settings)
    assert found is not None
    assert found.status is CheckStatus.FAIL
    assert "install" in found.mend


def test_a_token_that_others_can_read_is_a_failure(settings: Settings) -> None:
    settings.data_dir.mkdir()
    token = settings.data_dir / "token"
    assert doctor.check_token(settings).status is CheckStatus.OK
    token.write_text("x")
    token.chmod(0o640)
    found = doctor.check_token(settings)
    assert (found.status, "0640" in found.found, "chmod" in found.mend) == (CheckStatus.FAIL, True, True)
    token.chmod(0o600)
    assert doctor.check_token(settings).status is CheckStatus.OK


def test_a_database_that_is_to_be_made_that_is_there_and_that_is_none(settings: Settings) -> None:
    assert "to be made" in doctor.check_database(settings).found
    settings.data_dir.mkdir()
    path = settings.data_dir / "iaas.db"
    sqlite3.connect(path).close()
    assert doctor.check_database(settings).status is CheckStatus.OK
    path.write_bytes(b"this is no database at all" * 100)
    assert doctor.check_database(settings).status is CheckStatus.FAIL


def test_a_database_server_that_does_not_answer_is_told_of_without_its_password(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, database=f"postgresql://me:hunter2@127.0.0.1:{free_port()}/iaas")
    found = doctor.check_database(settings)
    assert found.status is CheckStatus.FAIL
    assert "hunter2" not in found.found + found.mend


def test_a_share_is_looked_at_when_there_is_one(tmp_path: Path) -> None:
    assert doctor.check_share(Settings(data_dir=tmp_path)) is None
    elsewhere = doctor.check_share(Settings(data_dir=tmp_path, image_share="nfs://other/nonexistent"))
    assert elsewhere is not None
    assert elsewhere.status is CheckStatus.WARN
    share = tmp_path / "images"
    share.mkdir()
    here = doctor.check_share(Settings(data_dir=tmp_path, image_share=f"nfs://127.0.0.1{share}"))
    assert here is not None
    assert (here.status, "not exported" in here.found, "/etc/exports" in here.mend) == (CheckStatus.FAIL, True, True)


def test_a_power_program_is_looked_at_and_asked_about_every_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "power"
    settings = Settings(data_dir=tmp_path, power_command=str(program))
    assert doctor.check_power(Settings(data_dir=tmp_path)) is None
    assert "cannot be read" in found_of(settings).found
    program.write_text(
        '#!/bin/sh\ncase "$1 $2" in "status lab1") echo off ;; *) echo "unknown: $2" >&2; exit 1 ;; esac\n'
    )
    program.chmod(0o722)
    assert (found_of(settings).status, "chmod" in found_of(settings).mend) == (CheckStatus.FAIL, True)
    program.chmod(0o700)
    assert "no node yet" in found_of(settings).found
    monkeypatch.setattr(doctor, "_nodes", lambda settings: [a_node(name="lab1")])
    assert (found_of(settings).status, "lab1" in found_of(settings).found) == (CheckStatus.OK, True)
    monkeypatch.setattr(doctor, "_nodes", lambda settings: [a_node(name="lab1"), a_node(name="lab2")])
    found = found_of(settings)
    assert (found.status, "lab2: not known" in found.found) == (CheckStatus.FAIL, True)
    assert "unknown: lab2" in found.found
    assert "lab1" not in found.found


def test_the_brake_is_told_with_what_releases_it(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def found(*silent: int) -> Finding | None:
        """With three nodes, of which some were last heard so many seconds ago."""
        now = datetime.now(UTC)
        heard = [now - timedelta(seconds=each) for each in silent]
        known = [a_node(name=f"off{each}", seen_at=at, updated_at=at) for each, at in zip(silent, heard, strict=True)]
        known += [a_node(name=f"n{number}", state=NodeState.READY) for number in range(3 - len(silent))]
        monkeypatch.setattr(doctor, "_nodes", lambda settings: known)
        return doctor.check_brake(settings)

    holds = found(20, 30)
    assert holds is not None
    assert (holds.status, "off20, off30" in holds.found, "confirm-dead" in holds.mend) == (CheckStatus.FAIL, True, True)
    for silent in ((), (20,), (20, 100_000)):
        free = found(*silent)
        assert free is not None
        assert free.status is CheckStatus.OK


def test_a_controller_on_one_of_two_nodes_is_told_with_the_way_to_a_third_voice(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def found(*boots: str) -> Finding | None:
        known = [a_node(name=f"n{number}", boot_id=each) for number, each in enumerate(boots)]
        monkeypatch.setattr(doctor, "_nodes", lambda settings: known)
        return doctor.check_voices(settings)

    beside, on_one = found("one", "two"), found("one", boot_id())
    assert beside is not None
    assert on_one is not None
    assert beside.status is CheckStatus.OK
    assert (on_one.status, "n1" in on_one.found, "--witness" in on_one.mend) == (CheckStatus.WARN, True, True)
    assert found("one", boot_id(), "witness") is None
    assert found(boot_id()) is None


def test_a_margin_that_counts_as_a_longer_one_is_told(tmp_path: Path) -> None:
    enough = doctor.check_margin(Settings(data_dir=tmp_path))
    assert enough.status is CheckStatus.OK
    small = doctor.check_margin(Settings(data_dir=tmp_path, lease_ttl_s=90.0))
    assert (small.status, "is 20, and counts as 27.5 s" in small.found) == (CheckStatus.WARN, True)
    assert "set it to 27.5 or more" in small.mend


def test_a_failed_disk_of_a_node_and_a_host_that_goes_down_are_told_with_the_way_on(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def found(check: Callable[[Settings], Finding | None], **of_node: object) -> Finding | None:
        monkeypatch.setattr(doctor, "_nodes", lambda settings: [a_node(name="n1", **of_node), a_node(name="n2")])
        return check(settings)

    failed = found(doctor.check_disks, unwritable="/var/lib/garbi cannot be written: Input/output error")
    assert failed is not None
    assert (failed.status, "n1: " in failed.found, "Input/output error" in failed.found) == (
        CheckStatus.FAIL,
        True,
        True,
    )
    assert "drain" in failed.mend
    whole = found(doctor.check_disks)
    assert whole is not None
    assert whole.status is CheckStatus.OK
    leaving = found(doctor.check_leaving, leaving_at=datetime(2026, 1, 2, tzinfo=UTC))
    assert leaving is not None
    assert (leaving.status, "n1 since 2026-01-02" in leaving.found) == (CheckStatus.WARN, True)
    assert "confirm-dead" in leaving.mend
    assert found(doctor.check_leaving) is None


def found_of(settings: Settings) -> Finding:
    found = doctor.check_power(settings)
    assert found is not None
    return found


def test_the_command_ends_with_an_error_when_a_check_fails_and_needs_no_controller(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("x")
    (tmp_path / "token").chmod(0o644)
    done = subprocess.run(
        [sys.executable, "-m", "garbi.iaas.cli", "doctor", "--data-dir", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert [line for line in done.stdout.splitlines() if line.startswith("token\tfail\t")]
    assert done.stderr == ""
