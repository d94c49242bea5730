"""Threats C and F: who may read and write the agent's files, and whose code it runs."""

from __future__ import annotations

import os
import re
import stat
import subprocess
from pathlib import Path

import pytest
from tests.api.conftest import HYPER
from tests.host.agent.host_agent import HostAgent
from tests.run_dir import RUN_DIR
from tests.security.conftest import program
from tests.security.guest_programs import writer

from garbi.hyper.model.image import ImageType
from garbi.hyper.settings import runtime_of

PASSED_THROUGH = 0o711
READABLE = re.compile(r"images/sha256/[0-9a-f]{64}$")
"""Content of images, which a hypervisor of another user reads; nobody but root can list where it is."""


def too_open(data_dir: Path) -> list[str]:
    """The files and directories that others than their owner may read, list or write, against what is meant."""
    found = []
    for path in sorted((data_dir, *data_dir.rglob("*"))):
        mode = stat.S_IMODE(path.lstat().st_mode)
        name = str(path.relative_to(data_dir))
        allowed = PASSED_THROUGH if path.is_dir() else 0o444 if READABLE.match(name) else 0o700
        if mode & ~allowed & 0o077:
            found.append(f"{name} {mode:o}")
    return found


@pytest.mark.parametrize("umask", [0o022, 0o000])
def test_the_agents_files_are_its_own_whatever_the_umask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, umask: int
) -> None:
    data_dir, run_dir = tmp_path / "data", tmp_path / "run"
    monkeypatch.setenv(RUN_DIR, str(run_dir))
    with program(data_dir, umask=umask) as (_, client):
        client.images.add("disk", "raw", [bytes(512)], 512)
        client.machines.add({"image": "any", "type": "fake", "id": "web"})
        assert {"hyper.db", "hyper.db-wal", "hyper.db-shm", "lock", "token"} <= {
            each.name for each in data_dir.iterdir()
        }
        assert too_open(data_dir) == []
    assert too_open(data_dir) == []
    assert runtime_of(data_dir).is_relative_to(run_dir)
    assert [
        f"{path} {path.stat().st_mode:o}" for path in (run_dir, *run_dir.rglob("*")) if path.stat().st_mode & 0o044
    ] == []
    assert [stat.S_IMODE(path.stat().st_mode) for path in (run_dir, runtime_of(data_dir))] == [0o700, 0o700]


@pytest.mark.root
@pytest.mark.libvirt
def test_disks_and_consoles_of_machines_are_closed_to_other_users(host: HostAgent) -> None:
    host.agent.images.add("closed", ImageType.RAW, [writer(b"")])
    host.run("closed", "closed", mem=32)
    files = {path.name for path in (host.data_dir / "drivers/libvirt").rglob("*")}
    assert {"closed.qcow2", "closed.log"} <= files
    assert too_open(host.data_dir) == []
    host.remove("closed")
    host.agent.images.remove("closed")


MODULES = ("alembic", "garbi", "libvirt", "docker", "oslo_utils", "random", "json", "sitecustomize", "click", "sqlite3")


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    """A directory of somebody else's, with modules that tell when they are run."""
    place = tmp_path / "trap"
    place.mkdir()
    for name in MODULES:
        (place / f"{name}.py").write_text(f"open({str(tmp_path / 'sprung')!r}, 'a').write({name!r})\n")
    return place


@pytest.mark.parametrize("command", [["doctor"], ["--help"], ["list"]])
def test_no_command_runs_code_from_the_directory_that_it_is_called_in(trap: Path, command: list[str]) -> None:
    environment = {**os.environ, "GARBI_HYPER_URL": "http://127.0.0.1:1"}
    done = subprocess.run(
        [HYPER, *command], cwd=trap, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert "Traceback" not in done.stderr
    assert not trap.with_name("sprung").exists()


def test_no_server_runs_code_from_the_directory_that_it_is_started_in(trap: Path) -> None:
    with program(trap.with_name("data"), cwd=trap) as (_, client):
        client.images.add("disk", "raw", [bytes(512)], 512)
        client.drivers()
        client.host()
    assert not trap.with_name("sprung").exists()
