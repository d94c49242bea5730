"""For all tests: a missing daemon is a failure that says how to mend it, and with --no-skips so is every skipped test."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Generator, Iterator
from functools import cache
from pathlib import Path
from typing import TypeVar

import pytest
from tests.leftovers import LeftOpen, require_few, watched
from tests.reruns import Reruns
from tests.run_dir import RUN_DIR

Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)

HOST = Path(__file__).parents[1] / "scripts/host"
NEEDS = ("root", "docker", "libvirt")
"""Markers that say what a test needs, in the words of `scripts/host status`."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--no-skips", action="store_true", help="count a skipped or expectedly failing test as failed")
    parser.addoption(
        "--rerun-hosts", action="store_true", help="run failed tests of hosts once more, alone: tests/reruns.py"
    )


def pytest_configure(config: pytest.Config) -> None:
    if RUN_DIR not in os.environ:
        os.environ[RUN_DIR] = tempfile.mkdtemp(prefix="garbi-run-", dir="/dev/shm")
        config.add_cleanup(lambda: shutil.rmtree(os.environ.pop(RUN_DIR), ignore_errors=True))
    if config.getoption("--rerun-hosts") and not hasattr(config, "workerinput"):
        options = ["--no-skips"] if config.getoption("--no-skips") else []
        config.pluginmanager.register(Reruns(config, options))
    for name in ("COLUMNS", "LINES"):  # a terminal that a test starts has its own size, whatever that of its caller is
        os.environ.pop(name, None)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell leaves it to what it starts in the background
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="module", autouse=True)
def nothing_left_open(request: pytest.FixtureRequest) -> Iterator[None]:
    """A module closes what it opens."""
    try:
        with watched(request.node.name):
            yield
    except LeftOpen as left:
        raise pytest.fail.Exception(str(left), pytrace=False) from None


def pytest_runtest_setup(item: pytest.Item) -> None:
    for need in NEEDS:
        missing = item.get_closest_marker(need) and _missing().get(need)
        if missing:
            pytest.fail(
                f"this test needs {need}, but {missing}; `make setup` installs and starts what is missing",
                pytrace=False,
            )


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None]:
    yield
    try:
        require_few(item.nodeid)
    except LeftOpen as left:
        raise pytest.fail.Exception(str(left), pytrace=False) from None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    return _refuse_skip(report, item.config)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    return _refuse_skip(report, collector.config)


def _refuse_skip(report: Report, config: pytest.Config) -> Report:
    if report.outcome == "skipped" and config.getoption("--no-skips"):
        report.outcome = "failed"
        report.longrepr = f"left out, which --no-skips does not allow: {report.longrepr}"
    return report


@cache
def _missing() -> dict[str, str]:
    """What this host lacks, and why."""
    status = subprocess.run([HOST, "status"], capture_output=True, text=True, check=False).stdout
    lines = (line.partition(" missing: ") for line in status.splitlines())
    return {name.strip(): why for name, missing, why in lines if missing}
