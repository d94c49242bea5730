"""The doctor against daemons that are missing, broken or old: sockets that answer as they would."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingUnixStreamServer
from typing import Any

import pytest

from garbi.base.checks import CheckStatus, Finding, ok
from garbi.hyper.host import daemon_checks, system_checks
from garbi.hyper.host.check import DoctorSettings
from garbi.hyper.host.doctor import CHECKS, checks_of, run_checks
from garbi.hyper.host.exposure import exposed_daemons
from garbi.storage.room import REMOTE_FILE_SYSTEMS, file_system

INFO = {"ServerVersion": "28.2.2", "RuncCommit": {"ID": "1.3.3-0-gd842d771"}, "LiveRestoreEnabled": True}


@contextmanager
def engine(path: Path, answer: Any, status: int = 200) -> Iterator[DoctorSettings]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def address_string(self) -> str:
            return "test"

        def log_message(self, *words: Any) -> None:
            pass

    with ThreadingUnixStreamServer(str(path), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield DoctorSettings(data_dir=path.parent, docker_socket=path)
        finally:
            server.shutdown()
            thread.join()


def test_one_check_that_breaks_or_hangs_stops_no_other() -> None:
    release, ended = threading.Event(), threading.Event()

    def break_down(settings: DoctorSettings) -> Finding:
        raise RuntimeError("broken")

    def hang(settings: DoctorSettings) -> Finding:
        release.wait(60)
        ended.set()
        return ok("late")

    checks = run_checks(
        DoctorSettings(timeout_s=0.5),
        {"broken": break_down, "hanging": hang, "fine": lambda settings: ok("fine"), "silent": lambda settings: None},
    )
    assert not ended.is_set()
    release.set()
    assert [(check.name, check.status) for check in checks] == [("broken", "fail"), ("hanging", "fail"), ("fine", "ok")]
    assert "RuntimeError: broken" in checks[0].found
    assert "no answer within 0.5 s" in checks[1].found
    assert all(check.mend for check in checks[:2])


def test_a_docker_that_is_not_there_is_said_once_and_how_to_install_it(tmp_path: Path) -> None:
    settings = DoctorSettings(data_dir=tmp_path, docker_socket=tmp_path / "docker.sock")
    finding = daemon_checks.check_docker(settings)
    assert finding.status is CheckStatus.FAIL
    assert "apt-get install docker.io" in finding.mend
    assert daemon_checks.check_runc(settings) is None
    assert daemon_checks.check_live_restore(settings) is None


@pytest.mark.parametrize(("answer", "status"), [([], 200), ({}, 200), ("x", 500), ({"ServerVersion": None}, 200)])
def test_an_engine_that_answers_nonsense_fails_without_a_traceback(tmp_path: Path, answer: Any, status: int) -> None:
    with engine(tmp_path / "s", answer, status) as settings:
        checks = run_checks(settings, {name: CHECKS[name] for name in CHECKS if name.startswith("docker")})
    assert checks[0].status is CheckStatus.FAIL
    assert not any("check itself failed" in check.found for check in checks)


def test_a_socket_that_nobody_serves_is_told_from_none(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(str(tmp_path / "s"))
        finding = daemon_checks.check_docker(DoctorSettings(docker_socket=tmp_path / "s"))
    assert finding.status is CheckStatus.FAIL
    assert "does not answer" in finding.found


@pytest.mark.parametrize(("version", "status"), [("19.03.9", "fail"), ("20.10.24+dfsg1", "ok"), ("28.2.2", "ok")])
def test_the_age_of_docker_is_judged(tmp_path: Path, version: str, status: str) -> None:
    with engine(tmp_path / "s", INFO | {"ServerVersion": version}) as settings:
        finding = daemon_checks.check_docker(settings)
    assert finding.status == status
    assert version in finding.found


@pytest.mark.parametrize(
    ("version", "status"),
    [("1.1.4", "warn"), ("1.2.7", "warn"), ("1.2.8", "ok"), ("1.3.2+ds1-1", "warn"), ("1.3.3", "ok"), ("1.4.0", "ok")],
)
def test_cve_2025_31133_a_runc_that_lets_containers_escape_is_warned_of(
    tmp_path: Path, version: str, status: str
) -> None:
    with engine(tmp_path / "s", INFO | {"RuncCommit": {"ID": version}}) as settings:
        finding = daemon_checks.check_runc(settings)
    assert finding is not None
    assert finding.status == status
    assert version in finding.found
    assert ("CVE-2025-31133" in finding.found) is (status == "warn")


def test_containers_that_would_stop_with_dockerd_are_warned_of(tmp_path: Path) -> None:
    with engine(tmp_path / "s", INFO) as settings:
        kept = daemon_checks.check_live_restore(settings)
    with engine(tmp_path / "t", INFO | {"LiveRestoreEnabled": False}) as settings:
        stopped = daemon_checks.check_live_restore(settings)
    assert kept is not None
    assert stopped is not None
    assert (kept.status, stopped.status) == ("ok", "warn")
    assert "live-restore" in stopped.mend


def test_a_host_that_carries_no_machines_misses_no_engine(tmp_path: Path) -> None:
    none, own, other = (DoctorSettings(data_dir=tmp_path / name) for name in ("none", "own", "other"))
    assert checks_of(none) == CHECKS
    assert "docker" not in checks_of(none, witness=True)
    for settings in (own, other):
        settings.data_dir.mkdir()
        (settings.data_dir / "hyper.db").touch()
    (own.data_dir / "witness").touch()
    assert [*checks_of(own)] == ["rights", "disk", "exposed-daemons"]
    assert checks_of(other) == checks_of(none) == CHECKS  # another agent of the host carries some
    (other.data_dir / "witness").touch()
    assert checks_of(none) == checks_of(own)


def test_a_libvirt_that_does_not_answer_says_so_in_its_own_words(tmp_path: Path) -> None:
    finding = daemon_checks.check_libvirt(DoctorSettings(libvirt_uri=f"qemu+unix:///system?socket={tmp_path}/none"))
    assert finding.status is CheckStatus.FAIL
    assert "does not answer" in finding.found
    assert finding.mend


def test_libvirts_own_test_driver_answers() -> None:
    assert daemon_checks.check_libvirt(DoctorSettings(libvirt_uri="test:///default")).status is CheckStatus.OK


def test_a_data_directory_on_a_file_system_of_the_network_is_refused() -> None:
    assert "nfs4".startswith(REMOTE_FILE_SYSTEMS)
    assert file_system(Path("/proc/self")) == "proc"


def test_a_data_directory_on_a_small_file_system_fails() -> None:
    finding = system_checks.check_disk(DoctorSettings(data_dir=Path("/sys/kernel")))
    assert finding.status is CheckStatus.FAIL
    assert "--data-dir" in finding.mend


def test_a_daemon_that_only_this_host_reaches_is_not_exposed() -> None:
    with socket.create_server(("127.0.0.1", 0)):
        assert exposed_daemons() == []


@pytest.mark.parametrize(("mode", "status"), [(0o600, "fail"), (0o666, "ok")])
def test_a_kvm_device_that_qemu_cannot_open_fails_because_libvirt_would_crawl(
    tmp_path: Path, mode: int, status: str
) -> None:
    device = tmp_path / "kvm"
    device.touch()
    device.chmod(mode)
    finding = system_checks.check_kvm_device(DoctorSettings(), device)
    assert finding.status == status
    assert ("chgrp kvm" in finding.mend) == (status == "fail")
