"""The recovery from a kill is killed too, at each place that it passes, for each place of the first kill."""

from __future__ import annotations

from itertools import count

import pytest
from tests.crash.conftest import Stages
from tests.crash.kills import Kill, Route, explore, kill_at, look_after
from tests.crash.operations import OPERATIONS
from tests.crash.stage import OPENINGS, Stage

from garbi.base.failpoints import ANY, EXIT_CODE


@pytest.mark.parametrize("name", ["create", "pause", "power-off", "restart", "remove"])
def test_a_recovery_that_is_killed_at_any_step_is_taken_up_by_the_next(stages: Stages, name: str) -> None:
    stage = stages("fake-persistent")
    route = explore(stage, name)
    pairs = sum(kill_recoveries(stage, route, place) for place in route.places)
    stage.check_others()
    assert pairs >= len(route.places)
    print(f"{name}: {pairs} pairs of kills")


def kill_recoveries(stage: Stage, route: Route, place: str) -> int:
    """Kill the operation there and its recovery at its first place, and again, at the second, until it has no more."""
    with stage.agent(route.name) as agent:
        OPERATIONS[route.name].prepare(agent, stage.scene)
    first = kill_at(stage, route.name, place)
    with stage.kept() as bring_back:
        for visit in count(OPENINGS + 1):
            bring_back()
            ending = stage.run(route.name, f"{ANY}@{visit}", recover=True)
            assert ending.code in (0, EXIT_CODE), f"killed at {place}, the agent does not recover: {ending}"
            second = Kill(f"{place}, then {ending.visited[-1]}", first.answered, stage.alive() if first.alive else None)
            assert second.alive == first.alive, f"killed at {second.place}: the machine was started again"
            with stage.agent(route.name) as agent:
                look_after(stage, agent, route, second)
            if ending.code == 0:
                return visit - OPENINGS - 1
    raise AssertionError
