"""What is true at the moment when a machine is gone for its user."""

from __future__ import annotations

import queue
from dataclasses import replace

from tests.agent.test_machines import PATIENCE_S, SPEC, gone, made
from tests.crash.stage import is_free

from garbi.hyper.agent.agent import Agent
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
