"""The agent is killed at every recorded step of every operation, on every driver whose machines outlive it."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pytest
from tests.crash.conftest import MARKS, Stages
from tests.crash.kills import explore, kill_at_every_place
from tests.crash.marks import ELSEWHERE, marked_places
from tests.crash.operations import OPERATIONS
from tests.crash.stage import TYPES

SAME_STEPS = ("create-stopped", "create-copy", "stop-paused", "remove-paused", "hold", "free")
"""These differ from others only in the order of the same steps of a container: they are killed on the fake driver alone."""

KILLED: Mapping[str, Mapping[str, str]] = {
    "fake-persistent": dict.fromkeys(OPERATIONS, ""),
    "docker": dict.fromkeys((name for name in OPERATIONS if name not in SAME_STEPS), ""),
    "libvirt-qemu": {
        "take-in-image": "",
        "create-stopped": "",
        "create": "create-stopped",
        "create-copy": "create-stopped",
        "pause": "",
        "resume": "",
        "power-off": "",
        "start": "",
        "restart": "start",
        "remove": "",
        "remove-keeping": "remove",
        "drop-kept": "",
    },
}
"""The operations by driver; where one is named beside it, only what goes beyond that one: virtual machines take their time."""

CASES = [
    pytest.param(driver, name, beyond, marks=MARKS.get(driver, []), id=f"{driver}-{name}")
    for driver, operations in KILLED.items()
    for name, beyond in operations.items()
]


@pytest.mark.parametrize(("driver", "name", "beyond"), CASES)
def test_an_operation_that_is_killed_at_any_step_is_finished_or_undone_after_the_restart(
    stages: Stages, driver: str, name: str, beyond: str
) -> None:
    places = kill_at_every_place(stages(driver), name, beyond)
    print(f"{driver}: {name}: {len(places)} kills")


@pytest.mark.docker
@pytest.mark.libvirt
@pytest.mark.root
def test_every_place_that_the_sources_mark_is_one_where_the_agent_was_killed(stages: Stages) -> None:
    passed: set[str] = set()
    for driver, names in KILLED.items():
        stage = stages(driver)
        for name in names:
            if name not in stage.passed:  # this test runs alone
                explore(stage, name)
        passed |= set().union(*stage.passed.values())
    marked = {place for type_name in TYPES.values() for place in marked_places(type_name)} - ELSEWHERE.keys()
    assert {place for place in marked if not any(re.fullmatch(place, name) for name in passed)} == set()
    assert passed & ELSEWHERE.keys() == set()
