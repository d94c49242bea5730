"""An engine that ends takes its machines along; one that starts may not know them yet. Neither is the machines' doing."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.agent.conftest import OpenAgent, world_of
from tests.agent.test_machines import SPEC, await_state, made

from garbi.hyper.converge import DISAPPEARED, ENDED_BY_ITSELF, ENDED_WITH_ENGINE
from garbi.hyper.drivers.fake import FakeWorld
from garbi.hyper.loops import engines
from garbi.hyper.model.machine import RestartPolicy, State, Wish

NEVER = replace(SPEC, restart=RestartPolicy.NO)


@pytest.mark.parametrize("there", [True, False], ids=["agent-there", "agent-away"])
@pytest.mark.parametrize("policy", list(RestartPolicy))
def test_what_ended_with_its_engine_is_started_again_whatever_its_policy(
    open_fake_agent: OpenAgent, policy: RestartPolicy, there: bool
) -> None:
    agent = open_fake_agent()
    world = world_of(agent)
    made(agent, replace(SPEC, restart=policy))
    made(agent, replace(NEVER, id="off", state=Wish.STOPPED))
    made(agent, replace(NEVER, id="ended"))
    world.end("ended")
    await_state(agent, "ended", State.STOPPED)
    if not there:
        agent.close()
    world.engine.end()
    agent = agent if there else open_fake_agent()
    with agent.events.signal_of("m1") as changed:
        while world.machine("m1").power_ons < 2:
            assert changed.wait(60)
            changed.clear()
    assert await_state(agent, "m1", State.RUNNING).restarts == 0
    assert ENDED_WITH_ENGINE in [each.reason for each in agent.events.since(0, 1000) if each.machine_id == "m1"]
    assert await_state(agent, "off", State.STOPPED).reason == ""
    assert world.machine("off").power_ons == 0
    assert (agent.machines.get("ended").state, world.machine("ended").power_ons) == (State.STOPPED, 1)


def test_what_ends_after_it_was_started_again_ended_by_itself(open_fake_agent: OpenAgent) -> None:
    agent = open_fake_agent()
    world = world_of(agent)
    made(agent, NEVER)
    world.engine.end()
    with agent.events.signal_of("m1") as changed:
        while agent.machines.get("m1").engine_life != "2":
            assert changed.wait(60)
            changed.clear()
    world.end("m1")
    assert await_state(agent, "m1", State.STOPPED).reason == ENDED_BY_ITSELF


def test_what_ended_a_moment_before_its_engine_was_missed_is_started_again(open_fake_agent: OpenAgent) -> None:
    agent = open_fake_agent()
    world = world_of(agent)
    made(agent, replace(SPEC, restart=RestartPolicy.ON_FAILURE))
    world.end("m1")
    await_state(agent, "m1", State.STOPPED)
    world.make_unavailable()
    await_state(agent, "m1", State.UNKNOWN)  # the engine is asked once more soon after an end
    world.make_available()
    assert await_state(agent, "m1", State.RUNNING).restarts == 0


def test_a_machine_that_is_not_listed_for_a_moment_has_not_disappeared(open_fake_agent: OpenAgent) -> None:
    agent = open_fake_agent(resync_period_s=0.05)
    world = world_of(agent)
    made(agent)
    world.make_unavailable()
    await_state(agent, "m1", State.UNKNOWN)
    world.engine.name_machines(False)
    world.make_available()
    looked = agent.converger.looked_s_ago
    with agent.events.signal_of("m1") as changed:
        assert not changed.wait(2), agent.machines.get("m1")  # it would be told at once
    assert looked() is not None
    world.engine.name_machines(True)
    machine = await_state(agent, "m1", State.RUNNING)
    assert (machine.reason, world.machine("m1").power_ons) == ("", 1)


def test_a_machine_that_stays_away_has_disappeared(open_fake_agent: OpenAgent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "ABSENT_AT_START_S", 0.5)
    agent = open_fake_agent(resync_period_s=0.1)
    world: FakeWorld = world_of(agent)
    made(agent)
    world.engine.name_machines(False)
    assert await_state(agent, "m1", State.FAILED).reason == DISAPPEARED
