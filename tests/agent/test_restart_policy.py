"""Machines that end by themselves are started again by their policy, after growing pauses, until their budget is spent."""

from __future__ import annotations

from dataclasses import replace

from tests.agent.conftest import OpenAgent, world_of
from tests.agent.test_machines import PATIENCE_S, SPEC, await_state, gone, made, settled
from tests.conformance.bench import eventually

from garbi.hyper.agent.agent import Agent
from garbi.hyper.drivers.fake import FakeWorld
from garbi.hyper.model.machine import Machine, RestartPolicy, State, Wish

QUICK = (0.0, 0.05, 0.05)
LONG = (0.0, 3600.0)
CAUSE = "exited with code 3"


def await_run(agent: Agent, world: FakeWorld, power_ons: int) -> Machine:
    """Wait until the machine was powered on so often, and that is written down."""
    with agent.events.signal_of("m1") as changed:
        while (machine := agent.machines.get("m1")).state is not State.RUNNING or (
            world.machine("m1").power_ons != power_ons
        ):
            assert changed.wait(PATIENCE_S), f"not started again: {machine}"
            changed.clear()
    return machine


def reasons(agent: Agent) -> list[str]:
    """What was said of the machine, in order."""
    return [f"{event.state}: {event.reason}" for event in agent.events.since(0, 1000) if event.reason]


def test_a_machine_that_dies_is_started_again_and_every_restart_tells_its_cause(agent: Agent, world: FakeWorld) -> None:
    assert made(agent).restart is RestartPolicy.ON_FAILURE
    world.kill("m1", CAUSE)
    machine = await_run(agent, world, 2)
    assert (machine.restarts, machine.reason, machine.settled) == (1, "", True)
    assert reasons(agent) == [f"failed: {CAUSE}; restart 1 of 5 now", f"starting: restart 1 of 5: {CAUSE}"]
    assert agent.tally.read("machine_restarts") == {("fake",): 1}
    assert agent.audit() == []


def test_a_machine_that_ends_in_order_is_started_again_only_when_it_is_always_to_run(
    agent: Agent, world: FakeWorld
) -> None:
    made(agent, replace(SPEC, restart=RestartPolicy.ALWAYS))
    world.end("m1")
    assert await_run(agent, world, 2).restarts == 1
    agent.machines.remove("m1")
    gone(agent, "m1")
    made(agent)
    world.end("m1")
    assert await_state(agent, "m1", State.STOPPED).reason == "it ended by itself"


def test_a_machine_is_given_up_when_its_budget_is_spent_until_somebody_acts(open_fake_agent: OpenAgent) -> None:
    agent = open_fake_agent(restart_pauses_s=QUICK)
    world = world_of(agent)
    made(agent)
    for power_ons in (1, 2, 3):
        await_run(agent, world, power_ons)
        world.kill("m1", CAUSE)
    await_run(agent, world, 4)
    world.kill("m1", CAUSE)
    given_up = await_state(agent, "m1", State.FAILED)
    assert (given_up.reason, given_up.restarts) == (f"{CAUSE}; gave up after 3 restarts", 3)
    agent.machines.wish("m1", Wish.RUNNING)
    assert settled(agent, "m1").restarts == 0
    world.kill("m1", CAUSE)
    assert await_run(agent, world, 6).restarts == 1


def test_a_machine_that_ran_for_long_has_its_budget_back(open_fake_agent: OpenAgent) -> None:
    agent = open_fake_agent(restart_pauses_s=(0.0,), restarts_forgotten_after_s=0.2)
    world = world_of(agent)
    made(agent)
    for power_ons in (2, 3, 4):
        world.kill("m1", CAUSE)
        await_run(agent, world, power_ons)
        await_restarts(agent, 0)


def test_what_an_earlier_agent_restarted_has_its_budget_back_as_well(open_fake_agent: OpenAgent) -> None:
    first = open_fake_agent()
    made(first)
    world = world_of(first)
    world.kill("m1", CAUSE)
    await_run(first, world, 2)
    first.close()
    second = open_fake_agent(restarts_forgotten_after_s=0.2)
    await_restarts(second, 0)
    assert world.machine("m1").power_ons == 2


def test_a_stop_ends_the_waiting_for_a_restart(open_fake_agent: OpenAgent) -> None:
    agent = open_fake_agent(restart_pauses_s=LONG)
    world = world_of(agent)
    waiting(agent, world)
    agent.machines.wish("m1", Wish.STOPPED)
    assert settled(agent, "m1").state is State.STOPPED
    agent.machines.wish("m1", Wish.RUNNING)
    running = settled(agent, "m1")
    assert (running.state, running.restarts) == (State.RUNNING, 0)


def test_a_wish_to_run_does_not_wait_for_the_restart(open_fake_agent: OpenAgent) -> None:
    agent = open_fake_agent(restart_pauses_s=LONG)
    world = world_of(agent)
    waiting(agent, world)
    agent.machines.wish("m1", Wish.RUNNING)
    assert settled(agent, "m1").state is State.RUNNING


def test_a_machine_that_waits_for_its_restart_can_be_removed(open_fake_agent: OpenAgent) -> None:
    agent = open_fake_agent(restart_pauses_s=LONG)
    world = world_of(agent)
    waiting(agent, world)
    agent.machines.remove("m1")
    gone(agent, "m1")
    assert world.machines() == []


def test_a_pause_whose_end_no_agent_saw_begins_anew(open_fake_agent: OpenAgent) -> None:
    first = open_fake_agent(restart_pauses_s=LONG)
    world = world_of(first)
    waiting(first, world)
    first.close()
    second = open_fake_agent(restart_pauses_s=(0.0, 0.2))
    assert await_run(second, world, 3).restarts == 2


def test_a_restart_that_was_interrupted_is_finished_and_counted_once(open_fake_agent: OpenAgent) -> None:
    first = open_fake_agent()
    made(first)
    world = world_of(first)
    first.close()
    second = open_fake_agent({"start_delay_s": "3600"})
    world.kill("m1", CAUSE)
    assert await_state(second, "m1", State.STARTING).reason == f"restart 1 of 5: {CAUSE}"
    second.close()
    third = open_fake_agent()
    assert await_run(third, world, 2).restarts == 1


def test_a_restart_that_fails_is_followed_by_the_next(open_fake_agent: OpenAgent) -> None:
    agent = open_fake_agent(restart_pauses_s=QUICK)
    world = world_of(agent)
    made(agent)
    world.fail_next("start", "driver-failed")
    world.kill("m1", CAUSE)
    assert await_run(agent, world, 2).restarts == 2
    assert any("fails as ordered from the fake driver; restart 2 of 3 in 0.05 s" in each for each in reasons(agent))


def test_a_restart_whose_driver_is_away_is_taken_again_without_being_counted(open_fake_agent: OpenAgent) -> None:
    agent = open_fake_agent(restart_pauses_s=QUICK, resync_period_s=0.1)
    world = world_of(agent)
    made(agent)
    world.fail_next("start", "driver-unavailable")
    world.kill("m1", CAUSE)
    # Its engine was missed a moment after it died: that is not its doing.
    assert await_run(agent, world, 2).restarts == 0


def test_what_died_while_no_agent_ran_is_started_again(open_fake_agent: OpenAgent) -> None:
    first = open_fake_agent()
    made(first)
    world = world_of(first)
    first.close()
    world.kill("m1", "killed in the dark")
    second = open_fake_agent()
    assert await_run(second, world, 2).restarts == 1


def test_what_is_deleted_outside_is_not_started_again(agent: Agent, world: FakeWorld) -> None:
    made(agent, replace(SPEC, restart=RestartPolicy.ALWAYS))
    world.uproot(world.machine("m1").key)
    assert "it disappeared" in await_state(agent, "m1", State.FAILED).reason
    assert world.machines() == []


def waiting(agent: Agent, world: FakeWorld) -> None:
    """The machine has died twice, and waits for its second restart."""
    made(agent)
    world.kill("m1", CAUSE)
    await_run(agent, world, 2)
    world.kill("m1", CAUSE)
    assert await_state(agent, "m1", State.FAILED).reason == f"{CAUSE}; restart 2 of 2 in 3600 s"


def await_restarts(agent: Agent, number: int) -> None:
    """Wait until so many restarts are counted."""
    eventually(f"{number} restarts", lambda: agent.machines.get("m1").restarts == number, PATIENCE_S)
