"""The audit of a host with real rules: what the kernel leads, and nobody asked for, is named; and the other way round."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.free_ports import free_port
from tests.observability.conftest import named, tamper

from garbi.hyper.agent import Agent
from garbi.hyper.main import DATABASE, open_agent
from garbi.hyper.model.image import ImageType
from garbi.hyper.model.machine import MachineSpec, PublishedPort, Wish
from garbi.hyper.purge import purge
from garbi.hyper.settings import Settings

pytestmark = [pytest.mark.libvirt, pytest.mark.root]
PORT = 80


@pytest.fixture
def agent(data_dir: Path) -> Iterator[Agent]:
    """An agent with a virtual machine that has an address and a published port, and does not run."""
    settings = Settings(data_dir=data_dir / "hyper", resync_period_s=3600.0, audit_period_s=0.0, mem_limit_mib=4096)
    agent = open_agent(settings)
    try:
        agent.images.add("disk", ImageType.RAW, [b"\0" * 2**20])
        ports = (PublishedPort(free_port(), PORT),)
        agent.machines.add(MachineSpec(image="disk", type="libvirt", id="web", mem=64, ports=ports, state=Wish.STOPPED))
        machine = agent.machines.wait_settled("web", 120)
        assert machine is not None
        assert (machine.state, machine.reason) == (Wish.STOPPED, "")
        yield agent
    finally:
        agent.close()
        purge(settings, lambda _gone: None)


def test_i5_a_port_that_is_led_for_nobody(agent: Agent) -> None:
    assert agent.audit() == []
    table, port = f"garbi_{agent.cluster_id[:8]}", free_port()
    element = f"{{ tcp . {port} : 10.64.0.9 . 80 }}"
    subprocess.run(["nft", "add", "element", "inet", table, "leads", element], check=True)
    detail = f"port {port}/tcp is led to 10.64.0.9:80, but no machine has it"
    assert named(agent.audit(), "I5") == {f"port {port}/tcp": detail}


def test_i5_a_port_of_a_running_machine_that_is_led_nowhere(agent: Agent) -> None:
    agent.converger.stop()  # so that nobody mends it
    tamper(agent.settings.data_dir / DATABASE, "UPDATE machines SET state = 'running'")
    machine = agent.machines.get("web")
    found = named(agent.audit(), "I5")
    port = machine.ports[0].node_port
    assert found[f"port {port}/tcp"] == f"port {port}/tcp of a machine is not led to {machine.address}:{PORT}"
    assert found["web"] == "running here, stopped at the driver"
