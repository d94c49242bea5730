"""What is true at the moment when a machine is gone for its user."""

from __future__ import annotations

import queue
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from tests.agent.test_machines import PATIENCE_S, SPEC, gone, made
from tests.crash.stage import is_free

from garbi.base.errors import DriverUnavailable, GarbiError, NotFound
from garbi.hyper.agent.agent import Agent
from garbi.hyper.drivers.fake import FakeWorld
from garbi.hyper.model.event import Event, EventKind
from garbi.hyper.model.machine import PublishedPort


def test_who_learns_that_a_machine_is_gone_finds_its_port_free(agent: Agent, free_port: int) -> None:
    found: queue.Queue[bool] = queue.Queue()

    def look(event: Event) -> None:
        if event.kind is EventKind.REMOVED:
            found.put(is_free(free_port))

    agent.events.subscribe(look)
    made(agent, replace(SPEC, ports=(PublishedPort(free_port, 80),)))
    agent.machines.remove("m1")
    gone(agent, "m1")
    assert found.get(timeout=PATIENCE_S)


def test_what_an_engine_has_of_an_id_that_was_removed_before_is_removed_by_it(agent: Agent, world: FakeWorld) -> None:
    """Whatever the history says: a database that was put back, or another's hand, may have left it."""
    made(agent)
    left = world.machine("m1")
    agent.machines.remove("m1")
    gone(agent, "m1")
    for _ in range(2):
        world.plant(left)
        assert agent.machines.remove("m1") is None
        assert world.machines() == []
        with pytest.raises(NotFound, match="was removed at"):  # as ever, when nothing is there
            agent.machines.remove("m1")
    world.plant(left)
    world.make_unavailable()
    with pytest.raises(DriverUnavailable):  # it may be there still
        agent.machines.remove("m1")
    world.make_available()
    assert agent.machines.remove("m1") is None


def test_repeated_removals_of_what_is_gone_are_all_answered_alike(agent: Agent) -> None:
    made(agent)
    agent.machines.remove("m1")
    gone(agent, "m1")

    def answer(_: int) -> str:
        try:
            agent.machines.remove("m1")
        except GarbiError as error:
            return error.code
        return "accepted"

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(answer, range(64))) == {"not-found"}
