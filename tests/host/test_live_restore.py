"""The program that sets a Docker which is found on a host to live-restore, against a dockerd of the test's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.free_ports import free_port
from tests.host.docker_engines import OwnEngine, own_engine

pytestmark = [pytest.mark.root, pytest.mark.docker]

SCRIPT = Path(__file__).parents[2] / "src/garbi/playbooks/roles/docker/files/live_restore.py"
OWN = {"debug": True, "log-driver": "local", "labels": ["größe=klein"]}


class Found:
    """A Docker that was on the host before us, and what somebody had set there."""

    def __init__(self, engine: OwnEngine, settings: Path, record: Path) -> None:
        self.engine = engine
        self.settings = settings
        self.record = record

    def set(self, *options: str) -> subprocess.CompletedProcess[str]:
        """Run the program as the playbook does, on this Docker."""
        places = {
            "--settings": self.settings, "--host": self.engine.host, "--record": self.record,
            "--pidfile": self.engine.path.with_name("engine.pid"),
        }  # fmt: skip
        words = [str(word) for place in places.items() for word in place]
        return subprocess.run([sys.executable, SCRIPT, *words, *options], capture_output=True, text=True, check=False)

    def restores(self) -> bool:
        """Whether its containers would run on."""
        return self.engine.docker("info", "--format", "{{.LiveRestoreEnabled}}") == "true"

    def pid(self) -> int:
        """Its process: another one after a restart."""
        return int(self.engine.path.with_name("engine.pid").read_text())


@contextmanager
def found(tmp_path: Path, *options: str) -> Iterator[Found]:
    """A dockerd with settings of somebody's own, and the record that provisioning makes of a host first."""
    record = tmp_path / "before"
    record.mkdir()
    (record / "packages").write_text("dbus\ndocker.io\n")
    given = tmp_path / "daemon.json"
    given.write_text(json.dumps(OWN))
    with own_engine("--config-file", str(given), *options) as engine:
        yield Found(engine, given, record)


@pytest.fixture
def docker(tmp_path: Path) -> Iterator[Found]:
    with found(tmp_path) as docker:
        yield docker


def test_it_is_set_when_asked_without_a_restart_and_what_was_set_there_stays(docker: Found) -> None:
    pid, before = docker.pid(), docker.settings.read_bytes()
    os.chmod(docker.settings, 0o640)
    unasked = docker.set()
    assert (unasked.returncode, unasked.stdout, unasked.stderr) == (0, "", "")
    assert docker.settings.read_bytes() == before
    assert not docker.restores()
    done = docker.set("--found")
    assert (done.returncode, done.stdout, done.stderr) == (0, "garbi: changed\n", "")
    assert docker.restores()
    assert docker.pid() == pid
    assert json.loads(docker.settings.read_text()) == {**OWN, "live-restore": True}
    assert docker.settings.stat().st_mode & 0o777 == 0o640
    kept = docker.record / "docker-settings"
    assert (kept / "before").read_bytes() == before
    assert (kept / "ours").read_bytes() == docker.settings.read_bytes()
    assert docker.set("--found").stdout == ""  # nothing is left to do
    docker.engine.stop()
    docker.engine.start()
    assert docker.restores()


def test_settings_that_do_not_parse_are_named_and_not_touched(docker: Found) -> None:
    for content in (b'{"debug": true,\n  "log-level": }', b"{} {}", b'["debug"]', b"\xff", b"null"):
        docker.settings.write_bytes(content)
        done = docker.set("--found")
        assert (done.returncode, done.stdout) == (1, "")
        assert f"{docker.settings} " in done.stderr
        assert "nothing was changed; mend that, or add the node without --live-restore" in done.stderr
        assert docker.settings.read_bytes() == content
    assert not docker.restores()
    assert not (docker.record / "docker-settings").exists()


def test_what_dockerd_does_not_take_is_put_back(tmp_path: Path) -> None:
    with found(tmp_path, "--live-restore=false") as docker:
        before = docker.settings.read_bytes()
        done = docker.set("--found")
        assert (done.returncode, done.stdout) == (1, "")
        assert "is it given on its command line, too?" in done.stderr
        assert docker.settings.read_bytes() == before
        docker.engine.stop()
        docker.engine.start()  # it would not with both


def test_a_swarm_is_left_alone(docker: Found) -> None:
    address = f"127.0.0.1:{free_port()}"
    docker.engine.docker("swarm", "init", "--listen-addr", address, "--advertise-addr", address)
    before = docker.settings.read_bytes()
    done = docker.set("--found")
    assert (done.returncode, done.stdout) == (1, "")
    assert "in a swarm, which live-restore does not go with" in done.stderr
    assert docker.settings.read_bytes() == before
    docker.engine.docker("swarm", "leave", "--force")


def test_a_docker_that_does_not_run_starts_so(docker: Found) -> None:
    docker.engine.stop()
    docker.settings.unlink()
    assert docker.set("--found").stdout == "garbi: changed\n"
    assert json.loads(docker.settings.read_text()) == {"live-restore": True}
    assert not (docker.record / "docker-settings" / "before").exists()
    docker.engine.start()
    assert docker.restores()


def test_a_docker_that_is_new_is_set_unasked(docker: Found) -> None:
    (docker.record / "packages").write_text("dbus\n")
    docker.engine.stop()
    docker.settings.unlink()
    assert docker.set().stdout == "garbi: changed\n"
    docker.engine.start()
    assert docker.restores()
    assert docker.set().stdout == ""
    assert not (docker.record / "docker-settings").exists()  # it goes with its package
