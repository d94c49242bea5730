"""The watchdog as a process, beside an agent that is killed: what ends, what runs on, and what a crash of it changes."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from tests.leases.processes import ORDER, Processes, arm, machine, processes, renew
from tests.leases.words import CONTROLLER, eventually

from garbi.base.failpoints import EXIT_CODE
from garbi.hyper.drivers.fake import FakeWorld
from garbi.hyper.leases.files import LeaseFiles
from garbi.hyper.settings import runtime_of


def world_of(data_dir: Path) -> FakeWorld:
    return FakeWorld.at(data_dir / "drivers" / "fake")


def scene(running: Processes) -> None:
    """Two machines under an armed lease, one that stays; then the agent is killed."""
    agent, client = running.serve()
    renew(client)
    for name, policy in (("one", "recreate"), ("two", "recreate"), ("stays", "stay")):
        client.machines.add(machine(name, policy), assignment=ORDER)
    arm(client)
    agent.kill()
    agent.wait()


def test_what_a_dead_agent_cannot_end_the_watchdog_ends(data_dir: Path) -> None:
    with processes(data_dir) as running:
        watchdog = running.watch()
        scene(running)
        world = world_of(data_dir)
        eventually("they have ended", lambda: not world.machine("one").powered and not world.machine("two").powered)
        assert LeaseFiles(data_dir, runtime_of(data_dir)).fenced(CONTROLLER) == 1
        assert world.machine("stays").powered
        _, client = running.serve()
        eventually("one is held", lambda: client.machines.get("one")["reason"].startswith("held: "))
        assert not world.machine("one").powered
        watchdog.terminate()
        assert watchdog.wait() == 0


@pytest.mark.parametrize("place", ["watchdog.ended", "lease.fence.written", "fake.kill.off"])
def test_a_watchdog_that_is_killed_goes_on_when_it_starts_again(data_dir: Path, place: str) -> None:
    with processes(data_dir) as running:
        doomed = running.watch(GARBI_CRASH_AT=place)
        scene(running)
        assert doomed.wait(120) == EXIT_CODE
        running.watch()
        world = world_of(data_dir)
        eventually("they have ended", lambda: not world.machine("one").powered and not world.machine("two").powered)
        eventually("it is written down", lambda: LeaseFiles(data_dir, runtime_of(data_dir)).fenced(CONTROLLER) == 1)
        assert world.machine("stays").powered


def test_without_a_watchdog_an_agent_works_as_before(data_dir: Path) -> None:
    with processes(data_dir) as running:
        _, client = running.serve()
        first = renew(client)
        second = renew(client, first)
        assert (second["guarded"], second["armed"], second["active"]) == (False, False, True)
        client.machines.add(machine("one"), assignment=ORDER)
        assert client.machines.get("one")["state"] == "running"


def test_a_frozen_watchdog_is_no_guard_and_a_thawed_one_is(data_dir: Path) -> None:
    with processes(data_dir) as running:
        watchdog = running.watch()
        _, client = running.serve()
        eventually("it guards", lambda: renew(client)["guarded"])
        watchdog.send_signal(signal.SIGSTOP)
        eventually("it guards no longer", lambda: not renew(client)["guarded"])
        watchdog.send_signal(signal.SIGCONT)
        eventually("it guards again", lambda: renew(client)["guarded"])


def test_a_watchdog_ends_when_its_directory_is_gone_and_starts_in_none(data_dir: Path) -> None:
    with processes(data_dir) as running:
        watchdog = running.watch()
        lock = runtime_of(data_dir) / "watchdog.lock"
        eventually("it works", lock.exists)
        lock.unlink()
        assert watchdog.wait(120) == 0
        (data_dir / "missing").mkdir()
    with processes(data_dir / "never") as running:
        late = running.watch()
        assert late.wait(120) == 1
        assert "there is no data directory" in late.communicate()[1]
