"""An agent that starts again: it adopts what runs, finishes what was begun, and leaves alone what is not its own."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
from tests.agent.conftest import OpenAgent, world_of
from tests.agent.test_machines import PATIENCE_S, SPEC, await_state, made, settled
from tests.conformance.bench import eventually

from garbi.base.errors import DataDirLocked
from garbi.hyper.model.machine import RestartPolicy, State, Wish


def test_machines_keep_running_while_no_agent_runs_and_are_adopted(open_fake_agent: OpenAgent) -> None:
    first = open_fake_agent()
    made(first)
    first.close()
    second = open_fake_agent()
    assert second.machines.get("m1").state is State.RUNNING
    assert second.cluster_id == first.cluster_id
    assert world_of(second).machine("m1").power_ons == 1
    assert second.audit() == []


def test_what_happened_while_no_agent_ran_is_found_out(open_fake_agent: OpenAgent) -> None:
    first = open_fake_agent()
    made(first, replace(SPEC, restart=RestartPolicy.NO))
    world = world_of(first)
    first.close()
    world.kill("m1", "killed in the dark")
    second = open_fake_agent()
    assert await_state(second, "m1", State.FAILED).reason == "killed in the dark"


def test_a_step_that_was_begun_is_finished(open_fake_agent: OpenAgent) -> None:
    first = open_fake_agent({"start_delay_s": "3600"})
    first.machines.add(SPEC)
    await_state(first, "m1", State.STARTING)
    world_of(first)
    first.close()
    second = open_fake_agent()
    assert settled(second, "m1").state is State.RUNNING


def test_a_machine_that_was_asked_to_end_and_then_wished_to_run_runs_in_the_end(open_fake_agent: OpenAgent) -> None:
    first = open_fake_agent({"stop_delay_s": "2"})
    made(first)
    world = world_of(first)
    first.machines.wish("m1", Wish.STOPPED)
    eventually("it was asked to end", lambda: world.machine("m1").ends_at is not None, PATIENCE_S)
    first.machines.wish("m1", Wish.RUNNING)
    first.close()
    second = open_fake_agent({"stop_delay_s": "2"}, stop_deadline_s=PATIENCE_S)
    assert settled(second, "m1").state is State.RUNNING
    assert world.machine("m1").power_ons == 2


def test_a_closed_agent_leaves_no_thread_behind(open_fake_agent: OpenAgent) -> None:
    before = set(threading.enumerate())
    agent = open_fake_agent()
    made(agent)
    agent.close()
    assert set(threading.enumerate()) <= before


def test_after_a_reboot_of_the_host_what_ran_runs_again(
    open_fake_agent: OpenAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = open_fake_agent()
    made(first)
    made(first, replace(SPEC, id="off", state=Wish.STOPPED))
    world = world_of(first)
    first.close()
    world.kill("m1", "the host went down")
    monkeypatch.setattr("garbi.hyper.main.boot_id", lambda: "another boot")
    second = open_fake_agent()
    assert await_state(second, "m1", State.RUNNING).reason == ""
    assert second.machines.get("off").state is State.STOPPED


def test_a_second_agent_on_the_same_directory_is_refused_and_told_who_has_it(open_fake_agent: OpenAgent) -> None:
    first = open_fake_agent()
    with pytest.raises(DataDirLocked, match="pid"):
        open_fake_agent()
    made(first)


def test_the_data_directory_can_be_passed_but_not_listed_and_the_database_is_private(
    open_fake_agent: OpenAgent,
) -> None:
    agent = open_fake_agent()
    made(agent)
    path = agent.settings.data_dir
    assert path.stat().st_mode & 0o777 == 0o711
    for name in ("hyper.db", "hyper.db-wal", "lock"):
        assert (path / name).stat().st_mode & 0o077 == 0
