"""`hyper fence` as a process: with an agent that lives, is frozen or dead, and with a daemon that refuses."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from tests.leases.conftest import LeasedHost
from tests.leases.processes import ORDER, machine, processes, renew
from tests.leases.test_watchdog import world_of
from tests.leases.words import CONTROLLER, eventually

from garbi.base.errors import StaleOrder
from garbi.hyper.watchdog.opening import open_fence

OTHER = "d1" * 16


@pytest.mark.parametrize("agent_is", ["alive", "frozen", "dead"])
def test_a_fence_ends_what_may_run_elsewhere_whatever_the_agent_does(data_dir: Path, agent_is: str) -> None:
    with processes(data_dir) as running:
        agent, client = running.serve()
        renew(client)
        for name, policy in (("one", "recreate"), ("two", "recreate"), ("stays", "stay"), ("off", "recreate")):
            spec = machine(name, policy, restart="always", state="stopped" if name == "off" else "running")
            client.machines.add(spec, assignment=ORDER)
        client.machines.add({"image": "any", "type": "fake", "id": "local"})
        if agent_is != "alive":
            agent.send_signal(signal.SIGSTOP if agent_is == "frozen" else signal.SIGKILL)
        status, report = running.fence()
        assert (status, report["fenced"]) == (0, 1)
        ended_by_agent = {"one", "two"} - {*report["stopped"]}  # it learns of the fence as soon as that is written down
        assert report["stopped"] == sorted({"one", "two"} - ended_by_agent)
        assert not ended_by_agent or agent_is == "alive"
        assert (report["running"], report["left"]) == ([], ["stays"])
        world = world_of(data_dir)
        assert [name for name in ("one", "two", "stays", "off", "local") if world.machine(name).powered] == [
            "stays",
            "local",
        ]
        assert running.fence() == (0, {**report, "stopped": []})
        agent.send_signal(signal.SIGCONT)
        if agent_is == "dead":
            agent.wait()
            running.serve()
        client = running.client()
        for name in ("one", "two"):
            eventually("it is held", lambda name=name: client.machines.get(name)["held"])  # type: ignore[misc]
            assert not world.machine(name).powered
        with pytest.raises(StaleOrder):
            client.machines.wish("one", "running", assignment=ORDER)
        assert not renew(client)["active"]
        assert renew(client, number=2)["active"]


def test_a_fence_that_cannot_end_a_machine_says_so(host: LeasedHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("garbi.hyper.watchdog.fence.LIMIT_S", 0.1)
    host.renew(None, arm=False)
    host.add("one")
    host.stop_agent()
    host.world.make_unavailable("it is on strike")
    report = open_fence(host.settings).fence(CONTROLLER, 1)
    assert (report.running, report.stopped, report.why) == (["one"], [], {"one": "it is on strike"})
    host.world.make_available()
    assert open_fence(host.settings).fence(CONTROLLER, 1).running == []
    assert not host.runs("one")


def test_machines_of_a_later_lease_are_not_those_that_were_fenced(host: LeasedHost) -> None:
    host.renew(None, number=2)
    host.add("one", number=2)
    assert open_fence(host.settings).fence(CONTROLLER, 1).stopped == []
    assert host.runs("one")
    assert open_fence(host.settings).fence(CONTROLLER, 2).stopped == ["one"]
    assert open_fence(host.settings).fence(CONTROLLER, 1).fenced == 2


def test_a_fence_is_noticed_by_an_agent_that_was_never_asked_for_a_lease(host: LeasedHost) -> None:
    host.add("one", controller=OTHER)
    assert open_fence(host.settings).fence(OTHER, 1).stopped == ["one"]
    eventually("it is held", lambda: host.living.machines.get("one").held)


def test_a_fence_where_no_agent_worked_or_of_no_controller_is_refused(data_dir: Path) -> None:
    with processes(data_dir) as running:
        nowhere = running.start("fence", "--controller", CONTROLLER, "--number", "1")
        assert "no agent has worked in" in nowhere.communicate(timeout=120)[1]
        assert nowhere.returncode == 1
        running.serve()
        nobody = running.start("fence", "--controller", "../x", "--number", "1")
        assert "32 digits" in nobody.communicate(timeout=120)[1]
        assert nobody.returncode == 1
        wrong = running.start("fence", "--controller", CONTROLLER, "--number", "0")
        assert wrong.wait(120) == 2
