"""An agent that pretends to have a host to itself."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from tests.free_ports import free_port

from garbi.base.errors import PortTaken
from garbi.hyper.main import open_agent
from garbi.hyper.model.machine import MachineSpec, Protocol, PublishedPort, State
from garbi.hyper.settings import Settings


def test_simulated_agents_have_fake_machines_only_and_ports_of_their_own(tmp_path: Path) -> None:
    port = PublishedPort(free_port(), 80, Protocol.TCP)
    with socket.create_server(("127.0.0.1", port.node_port)):  # somebody of this host has it
        agents = [open_agent(Settings(data_dir=tmp_path / name), simulated=True) for name in ("one", "two")]
        try:
            for agent in agents:
                assert [driver.info.name for driver in agent.list_drivers()] == ["fake"]
                machine = agent.machines.add(MachineSpec(image="any", type="fake", id="web", ports=(port,)))
                settled = agent.machines.wait_settled(machine.id, 60)
                assert settled is not None
                assert settled.state is State.RUNNING
                with pytest.raises(PortTaken, match="belongs to machine web"):
                    agent.machines.add(MachineSpec(image="any", type="fake", id="other", ports=(port,)))
                assert agent.audit() == []
        finally:
            for agent in agents:
                agent.close()
