"""Faults that are planted in our own code are found by the simulation: in a file of its own, to run beside the others."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.simulation.apart import LIMIT_S, run

PLACE = Path(__file__).parent


def groups() -> list[tuple[str, ...]]:
    """The planted faults, six and six, by the names that stand in the modules."""
    pattern = re.compile(r'\bFault\(\s*"([a-z0-9-]+)"')
    names = [name for path in sorted(PLACE.glob("*faults.py")) for name in pattern.findall(path.read_text())]
    return [tuple(names[at : at + 6]) for at in range(0, len(names), 6)]


GROUPS = groups()

pytestmark = pytest.mark.timeout(LIMIT_S + 60)


@pytest.mark.parametrize("names", GROUPS, ids=lambda names: names[0])
def test_planted_faults_are_found(names: tuple[str, ...]) -> None:
    done = run("planted", *names)
    assert done.returncode == 0, done.stdout + done.stderr[-5000:]
    assert re.findall(r"^found ([a-z0-9-]+)", done.stdout, re.MULTILINE) == [*names]


def test_every_planted_fault_is_in_a_group() -> None:
    done = run("planted", "--list")
    assert sorted(done.stdout.split()) == sorted(name for names in GROUPS for name in names)
