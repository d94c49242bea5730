"""A real engine refuses to start a container at the boot of its host: it is tried again, and runs once it can."""

from __future__ import annotations

import subprocess

import pytest
from tests.host.agent.host_agent import (
    CONTAINER,
    HostAgent,
    TinyImages,
    eventually,
    facts_when_up,
    host_agent,
    other_process,
    ports,
)

from garbi.hyper.model.machine import RestartPolicy, State

pytestmark = [pytest.mark.root, pytest.mark.docker]

PAUSES_S = (0.0, *[1.0] * 120)
AGAIN = "to start it was refused, again in 1 s"


def reasons(host: HostAgent) -> list[str]:
    """What was said of the machines, in order."""
    return [event.reason for event in host.agent.events.since(0, 1000)]


def test_a_container_whose_port_somebody_has_at_the_boot_runs_once_it_is_free(
    images: TinyImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    (web,) = ports(80)
    with host_agent(images, limits={"restart_pauses_s": PAUSES_S}) as host:
        host.run("booting", CONTAINER, web, mem=64, restart=RestartPolicy.NO)
        host.close()
        subprocess.run(["docker", "kill", host.daemon_name("booting")], check=True, stdout=subprocess.DEVNULL)
        monkeypatch.setattr("garbi.hyper.main.boot_id", lambda: "another boot")
        with other_process(web.protocol, web.node_port) as (_, outcome):
            assert outcome == "taken"
            eventually("the refusal is told", lambda: AGAIN in host.agent.machines.get("booting").reason)
            assert any(f"port {web.node_port} of this host is held by python" in reason for reason in reasons(host))
        host.await_state("booting", State.RUNNING)
        assert facts_when_up(web)["hostname"] == "booting"
        assert host.agent.audit() == []
