"""A step that the engine refuses is repeated: for a create, a wish, a boot, a lease; a stop and a pause alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from tests.agent.conftest import OpenAgent, world_of
from tests.agent.test_machines import PATIENCE_S, SPEC, await_state, gone, made, settled
from tests.conformance.bench import eventually

from garbi.hyper.agent.agent import Agent
from garbi.hyper.drivers.fake import FakeWorld
from garbi.hyper.drivers.protocol import Condition
from garbi.hyper.model.machine import Awaits, Machine, RestartPolicy, State, Wish

QUICK = (0.0, 0.05, 0.05)
LONG = (0.0, 3600.0)
REFUSED = "fails as ordered from the fake driver"


def until(agent: Agent, words: str, holds: Callable[[Machine], bool]) -> Machine:
    """Wait until that holds of the machine."""
    eventually(words, lambda: holds(agent.machines.get("m1")), PATIENCE_S)
    return agent.machines.get("m1")


def reasons(agent: Agent) -> list[str]:
    return [f"{event.state}: {event.reason}" for event in agent.events.since(0, 1000) if event.reason]


@pytest.mark.parametrize("verb", ["prepare", "add", "start"])
def test_a_create_that_is_refused_once_runs_in_the_end_and_the_events_say_how_often(
    agent: Agent, world: FakeWorld, verb: str
) -> None:
    world.fail_next(verb, "driver-failed")
    machine = made(agent, replace(SPEC, restart=RestartPolicy.NO))
    assert (machine.state, machine.reason, machine.attempts) == (State.RUNNING, "", 0)
    deed = "start" if verb == "start" else "make"
    assert reasons(agent)[0] == f"failed: {verb} {REFUSED}; attempt 1 of 6 to {deed} it was refused, again now"
    assert f"attempt 2 of 6 to {deed} it: {verb} {REFUSED}" in reasons(agent)[1]
    assert sum(agent.tally.read("refused_steps").values()) == 1
    assert agent.audit() == []


@pytest.mark.parametrize("verb", ["prepare", "add", "start"])
def test_a_create_that_is_refused_for_a_while_is_answered_and_runs_in_the_end(
    open_fake_agent: OpenAgent, verb: str
) -> None:
    agent = open_fake_agent({"faults": f"{verb}:3:driver-failed"}, restart_pauses_s=(0.0, 0.5, 0.5))
    machine = made(agent)
    assert machine.state is State.FAILED
    assert "again in 0.5 s" in machine.reason
    assert until(agent, "it runs", lambda each: each.state is State.RUNNING).reason == ""


def test_a_create_that_is_refused_for_good_is_failed_until_somebody_acts(open_fake_agent: OpenAgent) -> None:
    agent = open_fake_agent(restart_pauses_s=QUICK)
    world = world_of(agent)
    world.fail_next("start", "driver-failed", times=None)
    agent.machines.add(SPEC)
    given_up = until(agent, "given up", lambda each: "gave up" in each.reason)
    assert (given_up.state, given_up.settled, given_up.awaits) == (State.FAILED, True, Awaits.NOTHING)
    assert given_up.reason == f"start {REFUSED}; gave up after 4 attempts to start it"
    assert agent.tally.read("refused_steps") == {("fake", "start"): 4}
    assert agent.audit() == []
    world.fail_next("start", "driver-failed", times=0)
    agent.machines.wish("m1", Wish.RUNNING)
    assert settled(agent, "m1").state is State.RUNNING


def test_a_machine_that_is_to_run_always_is_never_given_up(open_fake_agent: OpenAgent) -> None:
    agent = open_fake_agent({"faults": "start:8:driver-failed"}, restart_pauses_s=QUICK)
    agent.machines.add(replace(SPEC, restart=RestartPolicy.ALWAYS))
    assert until(agent, "it runs", lambda each: each.state is State.RUNNING).attempts == 0
    assert any("attempt 8 to start it was refused" in each for each in reasons(agent))


@pytest.mark.parametrize("code", ["image-rejected", "unknown-image", "already-exists", "ability-missing"])
def test_what_is_final_by_its_nature_is_answered_at_once(agent: Agent, world: FakeWorld, code: str) -> None:
    world.fail_next("add", code)
    machine = made(agent, replace(SPEC, restart=RestartPolicy.ALWAYS))
    assert (machine.state, machine.reason, machine.awaits) == (State.FAILED, f"add {REFUSED}", Awaits.NOTHING)


def test_a_wish_that_is_refused_once_is_fulfilled(agent: Agent, world: FakeWorld) -> None:
    made(agent, replace(SPEC, state=Wish.STOPPED))
    world.fail_next("start", "port-taken")
    agent.machines.wish("m1", Wish.RUNNING)
    assert settled(agent, "m1").state is State.RUNNING


@pytest.mark.parametrize("policy", RestartPolicy)
def test_a_boot_of_the_host_starts_what_an_engine_in_its_own_start_refuses(
    open_fake_agent: OpenAgent, monkeypatch: pytest.MonkeyPatch, policy: RestartPolicy
) -> None:
    first = open_fake_agent()
    made(first, replace(SPEC, restart=policy))
    world = world_of(first)
    first.close()
    world.end("m1")
    monkeypatch.setattr("garbi.hyper.main.boot_id", lambda: "another boot")
    second = open_fake_agent({"faults": "start:3:driver-failed"}, restart_pauses_s=QUICK)
    until(second, "it runs", lambda each: each.state is State.RUNNING and each.settled)
    assert world.machine("m1").power_ons == 2


def test_a_count_outlives_the_agent(open_fake_agent: OpenAgent) -> None:
    first = open_fake_agent({"faults": "start:*:driver-failed"}, restart_pauses_s=LONG)
    waiting(first)
    first.close()
    second = open_fake_agent({"faults": "start:*:driver-failed"}, restart_pauses_s=(0.0, 0.05))
    given_up = until(second, "given up", lambda each: "gave up" in each.reason)
    assert "gave up after 3 attempts" in given_up.reason
    assert second.tally.read("refused_steps") == {("fake", "start"): 1}


def test_a_wish_ends_the_waiting_and_has_all_attempts_before_it(open_fake_agent: OpenAgent) -> None:
    agent = open_fake_agent(restart_pauses_s=LONG)
    world = world_of(agent)
    world.fail_next("start", "driver-failed", times=2)
    waiting(agent)
    agent.machines.wish("m1", Wish.STOPPED)
    stopped = settled(agent, "m1")
    assert (stopped.state, stopped.attempts) == (State.STOPPED, 0)
    world.fail_next("start", "driver-failed", times=2)
    agent.machines.wish("m1", Wish.RUNNING)
    assert "attempt 2 of 3" in settled(agent, "m1").reason
    agent.machines.wish("m1", Wish.RUNNING)
    assert settled(agent, "m1").state is State.RUNNING


def test_a_removal_ends_the_waiting(open_fake_agent: OpenAgent) -> None:
    agent = open_fake_agent({"faults": "start:*:driver-failed"}, restart_pauses_s=LONG)
    waiting(agent)
    agent.machines.remove("m1")
    gone(agent, "m1")
    assert world_of(agent).machines() == []


# Stops


@pytest.mark.parametrize("times", [1, 2])
def test_a_stop_that_is_refused_is_repeated_until_the_machine_is_stopped(
    agent: Agent, world: FakeWorld, times: int
) -> None:
    made(agent)
    world.fail_next("stop", "driver-failed", times=times)
    agent.machines.wish("m1", Wish.STOPPED)
    stopped = settled(agent, "m1")
    assert (stopped.state, stopped.reason, stopped.attempts) == (State.STOPPED, "", 0)
    assert world.machine("m1").condition is Condition.STOPPED
    assert f"stopping: stop {REFUSED}; attempt 1 to stop it was refused, again in 1 s" in reasons(agent)


def test_a_stop_that_is_always_refused_ends_in_a_power_off_which_is_repeated_as_well(
    open_fake_agent: OpenAgent,
) -> None:
    agent = open_fake_agent({"faults": "stop:*:driver-failed,kill:2:driver-failed"}, stop_deadline_s=0.2)
    made(agent)
    agent.machines.wish("m1", Wish.STOPPED)
    assert settled(agent, "m1").state is State.STOPPED
    assert any(f"stopping: kill {REFUSED}; attempt" in each for each in reasons(agent))


def test_a_machine_that_cannot_be_ended_is_on_its_way_until_a_later_start(open_fake_agent: OpenAgent) -> None:
    agent = open_fake_agent({"faults": "stop:*:driver-failed,kill:*:driver-failed"}, stop_deadline_s=0.1)
    world = world_of(agent)
    made(agent)
    agent.machines.wish("m1", Wish.STOPPED)
    stuck = until(agent, "it is said", lambda each: "to power it off was refused" in each.reason)
    assert (stuck.state, stuck.settled) == (State.STOPPING, False)
    agent.machines.wish("m1", Wish.RUNNING)
    running = settled(agent, "m1")
    assert (running.state, running.reason, running.attempts) == (State.RUNNING, "", 0)
    assert world.machine("m1").power_ons == 1


def test_a_stop_that_is_refused_goes_on_after_the_agent_was_restarted(open_fake_agent: OpenAgent) -> None:
    first = open_fake_agent({"faults": "stop:*:driver-failed"}, stop_deadline_s=3600.0)
    made(first)
    first.machines.wish("m1", Wish.STOPPED)
    until(first, "it was refused", lambda each: "was refused" in each.reason)
    first.close()
    second = open_fake_agent()
    assert settled(second, "m1").state is State.STOPPED


def test_a_frozen_machine_that_cannot_be_let_go_on_is_stopped_all_the_same(open_fake_agent: OpenAgent) -> None:
    agent = open_fake_agent(stop_deadline_s=0.2)
    world = world_of(agent)
    made(agent)
    agent.machines.wish("m1", Wish.PAUSED)
    settled(agent, "m1")
    world.fail_next("start", "driver-failed", times=None)
    agent.machines.wish("m1", Wish.STOPPED)
    assert settled(agent, "m1").state is State.STOPPED


# Pauses


def test_a_pause_that_is_refused_once_is_repeated(agent: Agent, world: FakeWorld) -> None:
    made(agent)
    world.fail_next("pause", "driver-failed")
    agent.machines.wish("m1", Wish.PAUSED)
    assert settled(agent, "m1").state is State.PAUSED


def test_a_pause_that_is_always_refused_leaves_a_machine_that_runs_and_says_why_until_it_is_wished_to(
    open_fake_agent: OpenAgent,
) -> None:
    agent = open_fake_agent({"faults": "pause:*:driver-failed"}, restart_pauses_s=QUICK, resync_period_s=0.1)
    made(agent)
    agent.machines.wish("m1", Wish.PAUSED)
    given_up = until(agent, "given up", lambda each: "gave up after 4 attempts to pause it" in each.reason)
    assert (given_up.state, given_up.wish, given_up.settled) == (State.RUNNING, Wish.PAUSED, True)
    agent.converger.resync()
    assert agent.audit() == []
    assert agent.machines.get("m1").reason == given_up.reason
    agent.machines.wish("m1", Wish.RUNNING)
    running = settled(agent, "m1")
    assert (running.wish, running.reason) == (Wish.RUNNING, "")


def test_a_resume_that_is_refused_leaves_a_machine_that_is_paused_and_is_repeated(open_fake_agent: OpenAgent) -> None:
    agent = open_fake_agent(restart_pauses_s=(0.0, 0.3))
    world = world_of(agent)
    made(agent)
    agent.machines.wish("m1", Wish.PAUSED)
    settled(agent, "m1")
    world.fail_next("start", "driver-failed", times=2)
    agent.machines.wish("m1", Wish.RUNNING)
    paused = settled(agent, "m1")
    assert (paused.state, paused.wish) == (State.PAUSED, Wish.RUNNING)
    assert "attempt 2 of 3 to start it was refused" in paused.reason
    await_state(agent, "m1", State.RUNNING)


def waiting(agent: Agent) -> None:
    """The machine was refused twice, and waits for its third attempt."""
    machine = made(agent)
    assert (machine.state, machine.attempts) == (State.FAILED, 2)
    assert machine.reason.endswith("; attempt 2 of 3 to start it was refused, again in 3600 s")
