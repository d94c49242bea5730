"""An agent that goes and comes back: machines never notice, and what happened meanwhile is found out."""

from __future__ import annotations

import os
import shlex
import signal
from functools import partial

import pytest
from tests.host.agent.host_agent import (
    CONTAINER,
    KINDS,
    PATIENCE_S,
    VM,
    HostAgent,
    echo,
    eventually,
    facts_when_up,
    incarnation,
    other_process,
    output,
    page,
    page_and_echo,
    ports,
)

from garbi.hyper.model.machine import MachineSpec, RestartPolicy, State, Wish

pytestmark = [pytest.mark.root, pytest.mark.docker, pytest.mark.libvirt]


def test_machines_run_and_answer_without_an_agent_and_are_the_same_when_it_is_back(host: HostAgent) -> None:
    published = {kind: page_and_echo() for kind in KINDS}
    for kind, pair in published.items():
        host.run(f"lasting-{kind}", kind, *pair)
    uptimes = {kind: float(facts_when_up(web)["uptime_seconds"]) for kind, (web, _) in published.items()}
    before = {kind: incarnation(host.pid(f"lasting-{kind}", kind)) for kind in KINDS}
    host.close()
    for kind, (web, udp) in published.items():
        assert f"lasting-{kind}" in page(web)
        eventually(f"the echo of the {kind}", partial(echo, udp))
    for kind, (web, udp) in published.items():
        machine = host.settled(f"lasting-{kind}")  # opens the agent again
        assert (machine.state, machine.wish, machine.reason) == (State.RUNNING, Wish.RUNNING, "")
        assert incarnation(host.pid(f"lasting-{kind}", kind)) == before[kind]
        assert float(facts_when_up(web)["uptime_seconds"]) >= uptimes[kind]
        assert echo(udp) == b"hello"
    assert host.agent.audit() == []
    for kind in KINDS:
        host.remove(f"lasting-{kind}")


def test_what_died_ended_or_went_while_no_agent_ran_is_found_out(host: HostAgent) -> None:
    for kind in KINDS:
        host.run(f"doomed-{kind}", kind, *ports(80), restart=RestartPolicy.NO)
        host.run(f"lost-{kind}", kind)
    names = {kind: host.daemon_name(f"lost-{kind}") for kind in KINDS}
    pids = [host.pid(f"doomed-{kind}", kind) for kind in KINDS]
    host.close()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    output("docker", "rm", "-f", names[CONTAINER])
    output("virsh", "-c", "qemu:///system", "destroy", names[VM])
    output("virsh", "-c", "qemu:///system", "undefine", names[VM])
    for kind, cause in ((VM, "killed"), (CONTAINER, "exited with code 137")):
        assert cause in host.await_state(f"doomed-{kind}", State.FAILED).reason
        assert "it disappeared" in host.await_state(f"lost-{kind}", State.FAILED).reason
    for machine_id in [f"{fate}-{kind}" for fate in ("doomed", "lost") for kind in KINDS]:
        again = host.wish(machine_id, Wish.RUNNING)
        assert (again.state, again.reason) == (State.RUNNING, "")
        host.remove(machine_id)


def test_a_wish_that_no_agent_fulfilled_is_fulfilled_by_the_next(host: HostAgent) -> None:
    for kind in KINDS:
        host.agent.machines.add(MachineSpec(image=kind, id=f"begun-{kind}", mem=64, ports=ports(80)))
    host.close()
    for kind in KINDS:
        assert host.settled(f"begun-{kind}").state is State.RUNNING
        host.agent.machines.remove(f"begun-{kind}")
    host.close()
    for kind in KINDS:
        assert host.agent.machines.wait_settled(f"begun-{kind}", PATIENCE_S) is None
    assert host.agent.audit() == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_port_that_was_taken_while_no_agent_ran_is_not_fought_over(host: HostAgent, kind: str) -> None:
    (web,) = ports(80)
    host.add("late", kind, web, state=Wish.STOPPED)
    host.close()
    with other_process("tcp", web.node_port) as (pid, outcome):
        assert outcome == "taken"
        machine = host.wish("late", Wish.RUNNING)
        assert machine.state is State.FAILED
        assert f"port {web.node_port}" in machine.reason
        assert f"(pid {pid})" in machine.reason
    assert host.wish("late", Wish.RUNNING).state is State.RUNNING
    assert facts_when_up(web)["hostname"] == "late"
    host.remove("late")


def test_after_a_reboot_of_the_host_what_ran_runs_again_with_its_ports(
    host: HostAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    published = {kind: ports(80)[0] for kind in KINDS}
    for kind, web in published.items():
        host.run(f"on-{kind}", kind, web)
        host.add(f"off-{kind}", kind, state=Wish.STOPPED)
    network, table = f"garbi-{host.cluster_id[:8]}", f"garbi_{host.cluster_id[:8]}"
    host.close()
    output("docker", "stop", "-t", "0", host.daemon_name("on-container"))
    output("virsh", "-c", "qemu:///system", "destroy", host.daemon_name("on-vm"))
    output("virsh", "-c", "qemu:///system", "net-destroy", network)
    output("virsh", "-c", "qemu:///system", "pool-destroy", network)
    output("nft", "delete", "table", "inet", table)
    for rule in [line for line in output("iptables", "-S").splitlines() if table in line]:
        output("iptables", "-D", *shlex.split(rule)[1:])
    monkeypatch.setattr("garbi.hyper.main.boot_id", lambda: "another boot")
    for kind, web in published.items():
        again = host.settled(f"on-{kind}")
        assert (again.state, again.reason) == (State.RUNNING, "")
        assert facts_when_up(web)["hostname"] == f"on-{kind}"
        assert host.settled(f"off-{kind}").state is State.STOPPED
    assert host.agent.audit() == []
    for machine_id in [f"{state}-{kind}" for state in ("on", "off") for kind in KINDS]:
        host.remove(machine_id)
