"""Published ports of a virtual machine and a container beside each other: who reaches them, and who can have them."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import pytest
from tests.free_ports import free_port
from tests.host.agent.host_agent import (
    CONTAINER,
    KINDS,
    VM,
    HostAgent,
    echo,
    eventually,
    facts_when_up,
    other_process,
    page,
    page_and_echo,
    ports,
)
from tests.host.publishing_lab import Lab, open_lab

from garbi.base.errors import PortTaken
from garbi.hyper.model.machine import MachineSpec, Protocol, PublishedPort, RestartPolicy, State, Wish

pytestmark = [pytest.mark.root, pytest.mark.docker, pytest.mark.libvirt]

MEM, CPUS = {VM: 160, CONTAINER: 64}, {VM: 2, CONTAINER: 1}

FETCH = "import sys, urllib.request as r; print(r.urlopen(sys.argv[1], timeout=60).read().decode())"


@dataclass(frozen=True)
class Published:
    """A running machine and its two ports."""

    id: str
    kind: str
    web: PublishedPort
    echo: PublishedPort


@pytest.fixture(scope="module")
def machines(host: HostAgent) -> dict[str, Published]:
    """One machine of each kind that serve all tests of this module that leave them as they are."""
    made = {}
    for kind in KINDS:
        web, udp = page_and_echo()
        host.run(f"serving-{kind}", kind, web, udp, mem=MEM[kind], cpus=CPUS[kind])
        made[kind] = Published(f"serving-{kind}", kind, web, udp)
    for machine in made.values():
        facts_when_up(machine.web)
    return made


@pytest.fixture(params=KINDS)
def machine(machines: dict[str, Published], request: pytest.FixtureRequest) -> Published:
    return machines[request.param]


@pytest.fixture
def lab() -> Iterator[Lab]:
    with open_lab() as made:
        yield made


def attempts(port: PublishedPort) -> dict[str, str]:
    """What comes of other processes that try to have the port, by address."""
    outcomes = {}
    for address in ("0.0.0.0", "127.0.0.1", "::"):
        with other_process(port.protocol, port.node_port, address) as (_, outcome):
            outcomes[address] = outcome
    return outcomes


NOBODY = dict.fromkeys(("0.0.0.0", "127.0.0.1", "::"), "Address already in use")


def test_the_page_says_the_limits_that_were_asked_for(machines: dict[str, Published]) -> None:
    guest = facts_when_up(machines[VM].web)
    assert (guest["hostname"], guest["kind"], guest["cpus"]) == ("serving-vm", "vm", "2")
    assert 120 * 1024 < int(guest["memory_kib"]) <= 160 * 1024
    container = facts_when_up(machines[CONTAINER].web)
    assert (container["hostname"], container["kind"]) == ("serving-container", "container")
    assert int(container["memory_limit_bytes"]) == 64 << 20
    quota, period = container["cpu_quota"].split()
    assert int(quota) == int(period)


def test_the_host_reaches_a_machine_by_its_loopback_and_by_its_own_address(machine: Published, lab: Lab) -> None:
    _, own_address = lab.neighbour()
    for address in ("127.0.0.1", own_address):
        assert machine.id in page(machine.web, address=address)
        eventually(f"the echo at {address}", partial(echo, machine.echo, address))


def test_another_host_reaches_a_machine(machine: Published, lab: Lab) -> None:
    other, address = lab.neighbour()
    assert machine.id in other.run(sys.executable, "-c", FETCH, f"http://{address}:{machine.web.node_port}/")
    assert other.ask("udp", address, machine.echo.node_port) == "hello"


def test_machines_reach_one_another_and_themselves_by_published_ports(
    machines: dict[str, Published], machine: Published, lab: Lab
) -> None:
    _, address = lab.neighbour()
    for target in machines.values():
        seen = page(machine.web, f"/cgi-bin/fetch?{address}:{target.web.node_port}")
        assert f"Hello from {target.id}" in seen, f"{target.id} from {machine.id}: {seen}"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("protocol", list(Protocol))
def test_a_port_of_any_process_of_the_host_is_refused_with_its_name_and_pid(
    host: HostAgent, kind: str, protocol: Protocol
) -> None:
    port = free_port()
    with other_process(protocol, port) as (pid, outcome):
        assert outcome == "taken"
        with pytest.raises(PortTaken) as caught:
            host.agent.machines.add(MachineSpec(image=kind, id="late", ports=(PublishedPort(port, 80, protocol),)))
    assert caught.value.extra["holder"].startswith("python")
    assert f"(pid {pid})" in caught.value.extra["holder"]
    assert f"(pid {pid})" in caught.value.detail
    assert "late" not in {each.id for each in host.agent.machines.list()}
    with other_process(protocol, port) as (_, outcome):
        assert outcome == "taken"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("protocol", list(Protocol))
def test_a_port_of_another_machine_is_refused_with_its_id(
    host: HostAgent, machine: Published, kind: str, protocol: Protocol
) -> None:
    taken = machine.web if protocol is Protocol.TCP else machine.echo
    with pytest.raises(PortTaken, match=f"belongs to machine {machine.id}") as caught:
        host.agent.machines.add(
            MachineSpec(image=kind, id="late", ports=(PublishedPort(taken.node_port, 80, protocol),))
        )
    assert caught.value.extra["holder"] == f"machine {machine.id}"


def test_no_process_can_take_a_port_of_a_running_machine(machine: Published) -> None:
    assert attempts(machine.web) == NOBODY
    assert attempts(machine.echo) == NOBODY


@pytest.mark.parametrize("kind", KINDS)
def test_ports_stay_with_a_stopped_machine_lead_to_it_again_and_are_free_when_it_is_gone(
    host: HostAgent, kind: str
) -> None:
    web, udp = page_and_echo()
    host.run("passing", kind, web, udp)
    facts_when_up(web)
    assert host.wish("passing", Wish.STOPPED).state is State.STOPPED
    assert page(web) == ""
    assert (attempts(web), attempts(udp)) == (NOBODY, NOBODY)
    assert host.wish("passing", Wish.RUNNING).state is State.RUNNING
    assert facts_when_up(web)["hostname"] == "passing"
    eventually("the echo", lambda: echo(udp) == b"hello")
    host.remove("passing")
    for port in (web, udp):
        with other_process(port.protocol, port.node_port) as (_, outcome):
            assert outcome == "taken"


@pytest.mark.parametrize("kind", KINDS)
def test_ports_stay_with_a_machine_that_died(host: HostAgent, kind: str) -> None:
    web, udp = page_and_echo()
    host.run("dying", kind, web, udp, mem=64, restart=RestartPolicy.NO)
    os.kill(host.pid("dying", kind), signal.SIGKILL)
    host.await_state("dying", State.FAILED)
    eventually("its ports are held again", lambda: (attempts(web), attempts(udp)) == (NOBODY, NOBODY))
    host.remove("dying")


@pytest.mark.parametrize("kind", KINDS)
def test_a_machine_made_without_being_started_has_its_ports_already(host: HostAgent, kind: str) -> None:
    (web,) = ports(80)
    assert host.add("waiting", kind, web, state=Wish.STOPPED).state is State.STOPPED
    assert attempts(web) == NOBODY
    host.remove("waiting")


def test_nothing_is_wrong_at_the_end(host: HostAgent, machines: dict[str, Published]) -> None:
    assert host.agent.audit() == []
    assert {host.state(machine.id) for machine in machines.values()} == {State.RUNNING}
