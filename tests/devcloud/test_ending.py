"""A development cloud that ends, or cannot begin: what is left of it, and what is not."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests.conformance.bench import eventually

from garbi.base.errors import PortTaken
from garbi.devcloud import DevCloud

BIN = Path(sys.executable).parent
LIMIT_S = 120.0
FAKE = {"image": "any", "type": "fake"}


@pytest.fixture(autouse=True)
def temporary_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is left in the place for temporary files is this test's own."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


def test_nothing_is_left_when_it_has_stopped(tmp_path: Path) -> None:
    threads, children = set(threading.enumerate()), child_processes()
    with DevCloud(nodes=2) as cloud:
        cloud.client.machines.add(FAKE)
        urls = [cloud.url, *(f"http://{node.address}" for node in cloud.nodes.values())]
        files = cloud.data_dir
        assert files.parent == tmp_path
    eventually("its threads have ended", lambda: set(threading.enumerate()) <= threads, LIMIT_S)
    assert child_processes() == children
    assert list(tmp_path.iterdir()) == []
    for url in urls:
        with socket.create_server(("127.0.0.1", urlsplit(url).port or 0)):
            pass


def child_processes() -> set[str]:
    return {pid for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()}


def test_a_start_that_fails_leaves_nothing_either(tmp_path: Path) -> None:
    threads = set(threading.enumerate())
    with socket.create_server(("127.0.0.1", 0)) as taken:
        cloud = DevCloud(nodes=2, port=taken.getsockname()[1])
        with pytest.raises(PortTaken):
            cloud.start()
    eventually("its threads have ended", lambda: set(threading.enumerate()) <= threads, LIMIT_S)
    assert list(tmp_path.iterdir()) == []


def test_with_a_data_directory_all_is_there_the_next_time(tmp_path: Path) -> None:
    with DevCloud(nodes=2, data_dir=tmp_path / "kept") as cloud:
        made = [cloud.client.machines.add({**FAKE, "id": id}) for id in ("one", "two")]
        before = {node["name"]: node["address"] for node in cloud.client.nodes.list()}
        token = cloud.token_file.read_text()
    with DevCloud(nodes=3, data_dir=tmp_path / "kept") as cloud:
        found = {machine["id"]: machine for machine in cloud.client.machines.list()}
        assert {id: each["node"] for id, each in found.items()} == {each["id"]: each["node"] for each in made}
        for id in found:
            eventually(f"{id} runs", lambda id=id: cloud.client.machines.get(id)["state"] == "running", LIMIT_S)
        after = {node["name"]: node["address"] for node in cloud.client.nodes.list()}
        assert before.items() < after.items()
        assert set(after) == {"node-1", "node-2", "node-3"}
        assert cloud.token_file.read_text() == token
        assert cloud.client.audit() == []


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "TMPDIR": str(tmp_path), "HOME": str(tmp_path)}


def test_the_command_serves_a_cloud_until_it_is_told_to_end(environment: dict[str, str], tmp_path: Path) -> None:
    command = [BIN / "iaas", "dev", "--nodes", "2", "--port", "0"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            greeting = [process.stdout.readline() for _ in range(3)]
            told = dict(re.findall(r"(GARBI_IAAS_\w+)=(\S+)", greeting[1]))
            listed = run_iaas("node", "ls", "-q", environment=environment | told)
            assert (listed.returncode, listed.stdout) == (0, "node-1\nnode-2\n")
            added = run_iaas(*greeting[2].split()[1:], environment=environment | told)
            assert (added.returncode, added.stderr) == (0, "")
            process.terminate()
            assert process.wait(LIMIT_S) == 0
        finally:
            process.kill()
    assert list(tmp_path.iterdir()) == []


def run_iaas(*arguments: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [BIN / "iaas", *arguments], env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False
    )


def test_the_tests_that_the_documentation_shows_pass(tmp_path: Path, environment: dict[str, str]) -> None:
    page = (Path(__file__).parents[2] / "docs/devcloud.md").read_text()
    (example,) = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    project = tmp_path / "project"
    project.mkdir()
    (project / "test_example.py").write_text(example)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", project, project]
    done = subprocess.run(
        command, cwd=project, env=environment, capture_output=True, text=True, timeout=LIMIT_S * 2, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout
    shutil.rmtree(project)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("garbi-")] == []
