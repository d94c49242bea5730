"""The doctor on this host, with its real daemons, and with one that is open to the network."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.host.docker_engines import eventually
from tests.host.publishing_lab import Lab, Space, engine_in, open_lab

from garbi.hyper.host.doctor import CHECKS, CheckStatus, DoctorSettings, run_checks

pytestmark = [pytest.mark.root, pytest.mark.docker, pytest.mark.libvirt]

RUN = """
import json, sys
from dataclasses import asdict
from pathlib import Path
from garbi.hyper.host.doctor import DoctorSettings, run_checks
print(json.dumps([asdict(check) for check in run_checks(DoctorSettings(docker_socket=Path(sys.argv[1]), timeout_s=60))]))
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with open_lab() as lab:
        yield lab


@pytest.fixture(scope="module")
def open_engine(lab: Lab) -> Iterator[tuple[Space, Path]]:
    """A Docker Engine of this test alone, in a network of its own, that takes orders over TCP."""
    space, _ = lab.neighbour()
    options = ("-H", "tcp://0.0.0.0:4711", "--tls=false", "--live-restore", "--bridge=none", "--iptables=false")
    with engine_in(space, *options) as socket:
        yield space, socket


def test_every_check_answers_on_this_host() -> None:
    checks = run_checks(DoctorSettings(timeout_s=60))
    assert [check.name for check in checks] == list(CHECKS)
    assert [check for check in checks if check.status is CheckStatus.FAIL] == []


def test_every_line_that_is_not_ok_says_how_to_mend_it() -> None:
    settings = DoctorSettings(
        docker_socket=Path("/nonexistent/docker.sock"), libvirt_uri="qemu+unix:///session?socket=/n"
    )
    checks = run_checks(settings)
    failing = [check.name for check in checks if check.status is CheckStatus.FAIL]
    assert failing == ["docker", "libvirt"]
    for check in checks:
        assert check.found
        assert bool(check.mend) is (check.status is not CheckStatus.OK)


def test_nothing_of_a_check_stays_on_the_host() -> None:
    run_checks()
    eventually("nothing is left", lambda: not traces())


def traces() -> list[str]:
    """What checks leave, those of other programs that are under way included."""
    tables = subprocess.run(["nft", "list", "tables"], check=True, capture_output=True, text=True).stdout
    links = Path("/sys/class/net").glob("gd????????")
    return [*(line for line in tables.splitlines() if "garbi_doctor" in line), *map(str, links)]


def test_an_engine_that_takes_orders_from_the_network_fails(open_engine: tuple[Space, Path]) -> None:
    space, socket = open_engine
    checks = {check["name"]: check for check in json.loads(space.run(sys.executable, "-c", RUN, str(socket)))}
    assert checks["exposed-daemons"]["status"] == "fail"
    assert ":4711" in checks["exposed-daemons"]["found"]
    assert "dockerd" in checks["exposed-daemons"]["found"]
    assert "tcp://" in checks["exposed-daemons"]["mend"]


def test_an_engine_with_live_restore_is_praised(open_engine: tuple[Space, Path]) -> None:
    space, socket = open_engine
    checks = {check["name"]: check for check in json.loads(space.run(sys.executable, "-c", RUN, str(socket)))}
    assert checks["docker"]["status"] == "ok"
    assert checks["docker-live-restore"]["status"] == "ok"


def test_what_is_said_of_live_restore_is_what_the_engine_of_this_host_says() -> None:
    words = ["docker", "info", "--format", "{{.LiveRestoreEnabled}}"]
    enabled = subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip() == "true"
    found = next(check for check in run_checks(DoctorSettings(timeout_s=60)) if check.name == "docker-live-restore")
    assert found.status is (CheckStatus.OK if enabled else CheckStatus.WARN)
    assert enabled or "/etc/docker/daemon.json" in found.mend


def test_who_is_not_root_is_told_what_to_join() -> None:
    script = f"import os; os.setgid(65534); os.setgroups([]); os.setuid(65534)\n{RUN}"
    words = [sys.executable, "-c", script, f"/nonexistent/{secrets.token_hex(4)}"]
    answer = subprocess.run(words, check=True, capture_output=True, text=True, timeout=120)
    checks = {check["name"]: check for check in json.loads(answer.stdout)}
    assert answer.stderr == ""
    assert checks["rights"]["status"] == "fail"
    assert "usermod -aG docker,libvirt nobody" in checks["rights"]["mend"]
    assert checks["nftables"]["status"] == "fail"
    assert "root" in checks["nftables"]["mend"]
