"""A cloud in virtual time, in processes of their own: nothing is lost, a seed replays."""

from __future__ import annotations

import re
import subprocess

import pytest
from tests.simulation.apart import LIMIT_S, run

NODE_DAYS = 200

pytestmark = pytest.mark.timeout(LIMIT_S + 60)


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
