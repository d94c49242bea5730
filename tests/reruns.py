"""Runs the failed tests of whole hosts, guests and browsers once more, each alone, and calls those that then pass flaky.

Hosts that boot and daemons that start depend on how busy the machine is. A test of them that fails once and then passes does not
fail the run, but it is printed with its first failure, for somebody to explain. More than `MOST` of them fail the run as ever.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PLACES = (
    "tests/cloud/", "tests/hosts/", "tests/guests/", "tests/browser/",
    "tests/host/test_libvirt", "tests/leases/test_virtual_machines",
)  # fmt: skip
"""How the names begin of tests that boot hosts, guests or browsers."""
MOST = 3
"""So many tests may be flaky in one run."""
FLAKY = "flaky"


class Reruns:
    """A plugin of pytest for the process that reports; `options` are handed on to the runs of single tests."""

    def __init__(self, config: pytest.Config, options: list[str]) -> None:
        self._config = config
        self._options = options
        self._failures: list[pytest.TestReport] = []
        self._broken = False

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._failures.append(report)
            print(f"\nfailed: {report.nodeid} ({report.when})", flush=True)  # long before the end of a long run

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._broken = self._broken or report.failed

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        names = list(dict.fromkeys(report.nodeid for report in self._failures))
        if self._broken or session.exitstatus != pytest.ExitCode.TESTS_FAILED or not names:
            return
        if len(names) > MOST or not all(name.startswith(PLACES) for name in names):
            return
        if all(self._passes_alone(name) for name in names):
            self._call_flaky()
            session.testsfailed = 0
            session.exitstatus = pytest.ExitCode.OK

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        for report in terminalreporter.stats.get(FLAKY, []):
            terminalreporter.section(f"FLAKY {report.nodeid}: it failed, and passed alone", "=", yellow=True)
            terminalreporter.line(report.longreprtext)
        for report in terminalreporter.stats.get(FLAKY, []):
            terminalreporter.line(f"FLAKY {report.nodeid}")

    def _passes_alone(self, name: str) -> bool:
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *self._options, name]
        environment = {
            key: value for key, value in os.environ.items() if not key.startswith(("PYTEST_XDIST", "PYTEST_CURRENT"))
        }
        ended = subprocess.run(command, cwd=self._config.rootpath, env=environment, capture_output=True, check=False)
        sys.stdout.write(f"\n--- once more, alone: {name}\n{ended.stdout.decode(errors='replace')}")
        return ended.returncode == 0

    def _call_flaky(self) -> None:
        reporter = self._config.pluginmanager.get_plugin("terminalreporter")
        assert reporter is not None
        for kind in ("failed", "error"):
            reporter.stats.pop(kind, None)
        reporter.stats[FLAKY] = self._failures
