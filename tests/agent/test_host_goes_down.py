"""A host that goes down ends machines in order; what ran when that began runs after the boot, and the controller is told."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from tests.agent.conftest import OpenAgent, world_of
from tests.agent.test_machines import PATIENCE_S, SPEC, await_state, made

from garbi.hyper.agent.departure import Departure
from garbi.hyper.model.machine import State


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What systemd says of the host: a file."""
    says = tmp_path / "says"
    says.write_text("running\n")
    program = tmp_path / "systemctl"
    program.write_text(f"#!/bin/sh\ncat {says}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return says


def test_what_ends_while_its_host_goes_down_runs_after_the_boot(
    open_fake_agent: OpenAgent, systemd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = open_fake_agent()
    world = world_of(first)
    for machine_id in ("before", "during"):
        made(first, replace(SPEC, id=machine_id))
    world.end("before")
    await_state(first, "before", State.STOPPED)
    systemd.write_text("stopping\n")
    world.end("during")
    with first.events.signal_of("during") as changed:
        assert not changed.wait(2), first.machines.get("during")
    first.close()
    systemd.write_text("running\n")
    monkeypatch.setattr("garbi.hyper.main.boot_id", lambda: "another boot")
    second = open_fake_agent()
    with second.events.signal_of("during") as changed:
        while world.machine("during").power_ons != 2:
            assert changed.wait(PATIENCE_S)
            changed.clear()
    assert await_state(second, "during", State.RUNNING).restarts == 0
    assert (second.machines.get("before").state, world.machine("before").power_ons) == (State.STOPPED, 1)


def test_who_takes_leave_waits_until_each_controller_is_told() -> None:
    departure = Departure(lambda: {"one", "two"})
    assert not departure.answer("one")
    thread = threading.Thread(target=departure.take)
    thread.start()
    while not departure.answer("one"):
        pass
    assert departure.answer("two")
    thread.join(60)
    assert not thread.is_alive()
