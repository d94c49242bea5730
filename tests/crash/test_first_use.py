"""Kills where something is made for the first time, and where the last machine goes: on a fresh data directory each time."""

from __future__ import annotations

import pytest
from tests.crash.conftest import DRIVERS
from tests.crash.kills import explore, kill_at, look_after
from tests.crash.operations import OPERATIONS, TakeInImage
from tests.crash.scene import IMAGE, VICTIM, all_settled, take_in
from tests.crash.stage import OPENING, OPENINGS, numbered, stage_of
from tests.crash.victim import PURGE

from garbi.base.failpoints import EXIT_CODE
from garbi.hyper.model.machine import Wish

CREATE = OPERATIONS["create"]


def test_an_agent_that_is_killed_while_it_opens_for_the_first_time_opens_the_next_time() -> None:
    with stage_of("fake-persistent") as stage:
        places = [place for place in numbered(stage.run("create").visited) if place.startswith(OPENING)]
    assert len(places) == OPENINGS
    for place in places:
        with stage_of("fake-persistent") as stage:
            assert stage.run("create", place).code == EXIT_CODE, f"the process was to die at {place}"
            assert stage.run("create").code == 0


def first_places(driver: str) -> tuple[list[str], list[str]]:
    """The places that only a first machine passes, and what is there when it is made; taking its image in is killed elsewhere."""
    with stage_of(driver) as stage:
        first = numbered(stage.run("create").visited)
        with stage.agent() as agent:
            assert CREATE.outcome(agent, stage.scene)
            made = stage.things()
            CREATE.clear(agent, stage.scene)
        second = set(numbered(stage.run("create").visited))
    only = [place for place in first if place not in second and place.partition("@")[0] not in TakeInImage.passes]
    return only, made


@pytest.mark.parametrize("driver", DRIVERS[1:])
def test_a_first_machine_that_is_killed_where_only_a_first_one_passes_is_made_or_was_never_asked_for(
    driver: str,
) -> None:
    places, made = first_places(driver)
    for place in places:
        with stage_of(driver) as stage:
            ending = stage.run("create", place)
            assert ending.code == EXIT_CODE, f"the process was to die at {place}: {ending}"
            with stage.agent() as agent:
                done = CREATE.outcome(agent, stage.scene)
                stage.check(agent, made if done else [])
                if not done:
                    take_in(agent, stage.scene, IMAGE)
                    agent.machines.add(stage.scene.spec(VICTIM, IMAGE, Wish.STOPPED))
                    all_settled(agent)
                assert stage.autostarts()
                CREATE.clear(agent, stage.scene)
                stage.check(agent, [])
    print(f"{driver}: first use: {len(places)} kills: {', '.join(places)}")


@pytest.mark.parametrize("driver", DRIVERS)
def test_the_last_machine_leaves_nothing_wherever_its_removal_is_killed(driver: str) -> None:
    with stage_of(driver) as stage:
        route = explore(stage, "remove")
        places = [place for place in route.places if place.startswith("machine.remove.")]
        for place in places:
            with stage.agent() as agent:
                OPERATIONS["remove"].prepare(agent, stage.scene)
            kill = kill_at(stage, "remove", place)
            with stage.agent() as agent:
                look_after(stage, agent, route, kill)
    print(f"{driver}: last machine: {len(places)} kills")


@pytest.mark.parametrize("driver", DRIVERS)
def test_an_agent_is_taken_off_the_host_whole_wherever_that_is_killed(driver: str) -> None:
    with stage_of(driver) as stage:
        assert stage.run("create-stopped").code == 0
        places = numbered(stage.run(PURGE).visited)
    places = [place for place in places if ".remove." not in place]
    assert {"purge.withdrawn@1", "purge.unpublished@1", "purge.emptied@1"} <= set(places)
    for place in places:
        with stage_of(driver) as stage:
            assert stage.run("create-stopped").code == 0
            assert stage.run(PURGE, place).code == EXIT_CODE, f"the process was to die at {place}"
    print(f"{driver}: purge: {len(places)} kills: {', '.join(places)}")
