"""A cloud in virtual time, in processes of their own: nothing is lost, a seed replays, faults that are planted are found."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLACE = Path(__file__).parent
LIMIT_S = 3000
NODE_DAYS = 200


def groups() -> list[tuple[str, ...]]:
    """The planted faults, six and six, by the names that stand in the modules."""
    pattern = re.compile(r'\bFault\(\s*"([a-z0-9-]+)"')
    names = [name for path in sorted(PLACE.glob("*faults.py")) for name in pattern.findall(path.read_text())]
    return [tuple(names[at : at + 6]) for at in range(0, len(names), 6)]


GROUPS = groups()

pytestmark = pytest.mark.timeout(LIMIT_S + 60)


def run(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Simulate in a process whose hashes are the same each time."""
    return subprocess.run(
        [sys.executable, "-m", f"tests.simulation.{module}", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )


def trace_of(done: subprocess.CompletedProcess[str]) -> str:
    found = re.search(r"trace ([0-9a-f]{32})", done.stdout)
    assert found is not None, done.stdout + done.stderr
    return found[1]


def test_a_seed_gives_the_same_trace_each_time() -> None:
    first = run("runs", "--seed", "5", "--hours", "1")
    again = run("runs", "--seed", "5", "--hours", "1")
    other = run("runs", "--seed", "6", "--hours", "1")
    assert trace_of(first) == trace_of(again)
    assert trace_of(first) != trace_of(other)


def test_nothing_is_lost_in_two_hundred_days_of_nodes_that_fail() -> None:
    done = run("check", "--node-days", str(NODE_DAYS))
    assert done.returncode == 0, done.stdout[-20000:] + done.stderr[-5000:]
    total = done.stdout.strip().splitlines()[-1]
    assert float(total.partition(" ")[0]) >= NODE_DAYS


def test_a_controller_that_is_away_for_a_day_stops_and_moves_nothing() -> None:
    done = run("outage")
    assert done.returncode == 0, done.stdout[-20000:] + done.stderr[-5000:]


def test_what_did_harm_once_does_none() -> None:
    done = run("runs", "--script", "mended")
    assert done.returncode == 0, done.stdout[-20000:] + done.stderr[-5000:]


@pytest.mark.parametrize("names", GROUPS, ids=lambda names: names[0])
def test_planted_faults_are_found(names: tuple[str, ...]) -> None:
    done = run("planted", *names)
    assert done.returncode == 0, done.stdout + done.stderr[-5000:]
    assert re.findall(r"^found ([a-z0-9-]+)", done.stdout, re.MULTILINE) == [*names]


def test_every_planted_fault_is_in_a_group() -> None:
    done = run("planted", "--list")
    assert sorted(done.stdout.split()) == sorted(name for names in GROUPS for name in names)
