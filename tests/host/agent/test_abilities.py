"""What both types can do beyond starting and stopping, asked of the agent."""

from __future__ import annotations

import pytest
from tests.host.agent.host_agent import KINDS, HostAgent, eventually, facts_when_up, incarnation, page, ports

from garbi.base.errors import Conflict
from garbi.hyper.model.machine import State, Wish

pytestmark = [pytest.mark.root, pytest.mark.docker, pytest.mark.libvirt]

MIB = 1 << 20


@pytest.mark.parametrize("kind", KINDS)
def test_a_machine_is_frozen_and_goes_on_where_it_was(host: HostAgent, kind: str) -> None:
    (web,) = ports(80)
    host.run("able", kind, web)
    facts_when_up(web)
    before = incarnation(host.pid("able", kind))
    assert host.wish("able", Wish.PAUSED).state is State.PAUSED
    assert page(web, timeout_s=1) == ""
    assert host.wish("able", Wish.RUNNING).state is State.RUNNING
    assert facts_when_up(web)
    assert incarnation(host.pid("able", kind)) == before
    host.wish("able", Wish.PAUSED)
    assert host.wish("able", Wish.STOPPED).state is State.STOPPED
    host.remove("able")


@pytest.mark.parametrize("kind", KINDS)
def test_a_machine_tells_its_console_and_its_figures(host: HostAgent, kind: str) -> None:
    (web,) = ports(80)
    host.run("telling", kind, web)
    facts_when_up(web)
    eventually("its console", lambda: b"tiny: ready, telling" in host.agent.machines.console_log("telling", 100_000))
    assert len(host.agent.machines.console_log("telling", 5)) == 5
    before = host.agent.machines.figures("telling")
    assert 0 < before.memory_bytes <= 256 * MIB

    def burnt() -> bool:
        page(web, "/cgi-bin/burn?1")
        return host.agent.machines.figures("telling").cpu_seconds > before.cpu_seconds + 0.2

    eventually("its work is seen", burnt)
    assert host.agent.machines.figures("telling").network_received_bytes > before.network_received_bytes
    host.wish("telling", Wish.STOPPED)
    with pytest.raises(Conflict, match="does not run"):
        host.agent.machines.figures("telling")
    assert host.agent.machines.get("telling").address is None or kind == "vm"
    host.remove("telling")
