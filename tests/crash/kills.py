"""Kills an operation at each place that it passes, and looks after each kill."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tests.crash.operations import OPERATIONS
from tests.crash.stage import OPENING, Stage, numbered

from garbi.base.failpoints import EXIT_CODE
from garbi.hyper.agent import Agent


@dataclass(frozen=True, slots=True)
class Route:
    """The places that an operation passes, each NAME@N, and what the daemon and the disk have before and after it."""

    name: str
    places: list[str]
    before: list[str]
    after: list[str]


@dataclass(frozen=True, slots=True)
class Kill:
    """Where an operation was killed, whether its verb had returned, and which run of the victim was on that is to last."""

    place: str
    answered: bool
    alive: str | None


def explore(stage: Stage, name: str) -> Route:
    """Let the operation run undisturbed, and see that it does what it should."""
    operation = OPERATIONS[name]
    with stage.agent(name) as agent:
        operation.clear(agent, stage.scene)
        operation.prepare(agent, stage.scene)
        stage.check(agent, stage.things())
    before = stage.things()
    ending = stage.run(name)
    assert ending.code == 0, f"{name} fails undisturbed: {ending}"
    places = [place for place in numbered(ending.visited) if not place.startswith(OPENING)]
    stage.passed[name] = {place.partition("@")[0] for place in places}
    missed = operation.passes - stage.passed[name]
    assert not missed, f"{name} passes only {places}"
    after = stage.things()
    with stage.agent(name) as agent:
        assert operation.outcome(agent, stage.scene), f"{name} did not do what it should"
        stage.check(agent, after)
    return Route(name, places, before, after)


def kill_at_every_place(stage: Stage, name: str, beyond: str = "") -> list[str]:
    """Kill the operation at each of its places, restart, and find nothing lost or orphaned; return the places.

    One that goes `beyond` another is killed only where the other does not pass.
    """
    route = explore(stage, name)
    if beyond:
        if beyond not in stage.passed:
            explore(stage, beyond)
        places = [place for place in route.places if place.partition("@")[0] not in stage.passed[beyond]]
        route = replace(route, places=places)
    with stage.agent(name) as agent:
        OPERATIONS[name].prepare(agent, stage.scene)
    for place in route.places:
        kill = kill_at(stage, name, place)
        with stage.agent(name) as agent:
            look_after(stage, agent, route, kill)
            OPERATIONS[name].prepare(agent, stage.scene)
            assert stage.things() == route.before
    with stage.agent(name) as agent:
        OPERATIONS[name].clear(agent, stage.scene)
        stage.check_port(agent)
    stage.check_others()
    return route.places


def kill_at(stage: Stage, name: str, place: str) -> Kill:
    """Kill the operation there, and see that it died there."""
    ending = stage.run(name, place)
    assert ending.code == EXIT_CODE, f"{name} was to die at {place}: {ending}"
    assert numbered(ending.visited)[-1] == place
    return Kill(place, ending.answered, stage.alive() if OPERATIONS[name].keeps_on else None)


def look_after(stage: Stage, agent: Agent, route: Route, kill: Kill) -> None:
    """What was answered is done, the rest is done or undone, and a machine that was on at the kill is on in the same run."""
    done = OPERATIONS[route.name].outcome(agent, stage.scene)
    assert done or not kill.answered, f"killed at {kill.place}: what was answered is lost"
    stage.check(agent, route.after if done else route.before)
    if kill.alive is not None:
        assert stage.alive() == kill.alive, f"killed at {kill.place}: the machine was started again"
