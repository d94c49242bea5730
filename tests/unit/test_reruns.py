"""Failed tests of hosts are run once more, alone; what then passes is named, and more than a few fail the run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]

CONFTEST = """
from tests.reruns import Reruns

def pytest_addoption(parser):
    parser.addoption("--rerun", action="store_true")

def pytest_configure(config):
    if config.getoption("--rerun") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Reruns(config, []))
"""

FAILS_ONCE = """
import pathlib

def test_{name}():
    mark = pathlib.Path(__file__).with_name("{name}.mark")
    known = mark.exists()
    mark.touch()
    assert known, "it was a busy moment"
"""

FAILS_EVER = """
def test_{name}():
    assert False, "it is broken"
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "tests/cloud").mkdir(parents=True)
    (tmp_path / "tests/iaas").mkdir()
    (tmp_path / "tests/cloud/test_well.py").write_text("def test_well():\n    pass\n")
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "pytest.ini").write_text(f"[pytest]\npythonpath = {PROJECT}\naddopts = --import-mode=importlib\n")
    return tmp_path


def _write(place: Path, folder: str, body: str, *names: str) -> None:
    for name in names:
        (place / folder / f"test_{name}.py").write_text(body.format(name=name))


def _run(place: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--rerun", *options, "tests"]
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("options", [(), ("-p", "xdist", "-n", "2")], ids=["one-process", "two-processes"])
def test_a_host_that_had_a_busy_moment_is_named_flaky_with_its_first_failure(
    place: Path, options: tuple[str, ...]
) -> None:
    _write(place, "tests/cloud", FAILS_ONCE, "slow")
    ended = _run(place, *options)
    assert ended.returncode == 0, ended.stdout
    assert "FLAKY tests/cloud/test_slow.py::test_slow" in ended.stdout
    assert "it was a busy moment" in ended.stdout
    assert "1 passed, 1 flaky" in ended.stdout.splitlines()[-1]


def test_a_host_that_is_broken_fails_the_run(place: Path) -> None:
    _write(place, "tests/cloud", FAILS_EVER, "broken")
    _write(place, "tests/cloud", FAILS_ONCE, "slow")
    ended = _run(place)
    assert ended.returncode == 1
    assert "2 failed" in ended.stdout.splitlines()[-1]


def test_a_test_that_boots_nothing_is_not_run_again(place: Path) -> None:
    _write(place, "tests/iaas", FAILS_ONCE, "quick")
    ended = _run(place)
    assert ended.returncode == 1
    assert "once more" not in ended.stdout


def test_more_than_three_flaky_tests_fail_the_run(place: Path) -> None:
    _write(place, "tests/cloud", FAILS_ONCE, "a", "b", "c", "d")
    ended = _run(place)
    assert ended.returncode == 1
    assert "FLAKY" not in ended.stdout
