"""Published ports between real network namespaces, through the firewall that Docker leaves behind on this host."""

from __future__ import annotations

import secrets
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.host.publishing_lab import Lab, Space, engine_in, open_lab, send_loopback_out

from garbi.base.errors import PortTaken
from garbi.hyper.drivers.protocol import GuestNetwork
from garbi.hyper.model.machine import Protocol, PublishedPort
from garbi.hyper.publishing.holders import PortHolder
from garbi.hyper.publishing.nftables import Lead, PublishingTable

pytestmark = [pytest.mark.root, pytest.mark.docker]

PROTOCOLS = [Protocol.TCP, Protocol.UDP]


@dataclass
class World:
    """One agent's table over one guest network with two guests, and a neighbour of the host."""

    lab: Lab
    table: PublishingTable
    network: GuestNetwork
    guest: Space
    other_guest: Space
    neighbour: Space
    front: str

    def publish(self, protocol: Protocol, node_port: int | None = None) -> int:
        """Serve a page in the guest and lead a port of the host there."""
        port = node_port or self.lab.free_port()
        machine_port = self.lab.serve(self.guest, protocol, "guest")
        self.table.apply([self.network], [Lead(protocol, port, self.guest.address, machine_port)])
        return port


@pytest.fixture(scope="module", autouse=True)
def dockers_policy() -> Iterator[None]:
    """What is forwarded is dropped, as by a dockerd that switched forwarding on itself; one that found it on leaves it so."""
    before = next(line.split()[2] for line in rules().splitlines() if line.startswith("-P FORWARD"))
    iptables("-P", "FORWARD", "DROP")
    yield
    iptables("-P", "FORWARD", before)


@pytest.fixture
def world() -> Iterator[World]:
    with open_lab() as lab:
        network, (guest, other) = lab.network("b", guests=2)
        neighbour, front = lab.neighbour()
        table = PublishingTable(secrets.token_hex(16))
        lab.stack.callback(table.clear)
        yield World(lab, table, network, guest, other, neighbour, front)


def iptables(*words: str) -> str:
    return subprocess.run(["iptables", "-w", *words], check=True, capture_output=True, text=True).stdout


def rules() -> str:
    return iptables("-S")


def nft(*words: str) -> str:
    return subprocess.run(["nft", *words], check=True, capture_output=True, text=True).stdout


def test_the_host_has_dockers_firewall_so_that_these_tests_mean_something() -> None:
    assert "-P FORWARD DROP" in rules()
    assert "-A FORWARD -j DOCKER-USER" in rules()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_another_host_reaches_a_published_port_and_the_guest_sees_who_it_is(world: World, protocol: Protocol) -> None:
    port = world.publish(protocol)
    assert world.neighbour.ask(protocol, world.front, port) == f"guest {world.neighbour.address}"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_host_reaches_a_published_port_on_each_of_its_addresses(world: World, protocol: Protocol) -> None:
    port = world.publish(protocol)
    assert world.lab.host.ask(protocol, world.front, port) == f"guest {world.front}"
    assert world.lab.host.ask(protocol, "127.0.0.1", port) == f"guest {world.network.gateway}"
    assert world.lab.host.ask(protocol, world.network.gateway, port).startswith("guest ")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_guests_reach_published_ports_of_one_another_and_of_themselves(world: World, protocol: Protocol) -> None:
    port = world.publish(protocol)
    for address in (world.network.gateway, world.front):
        assert world.other_guest.ask(protocol, address, port) == f"guest {world.network.gateway}"
        assert world.guest.ask(protocol, address, port) == f"guest {world.network.gateway}"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_port_that_the_agent_holds_still_leads_to_the_machine(world: World, protocol: Protocol) -> None:
    port = world.lab.free_port()
    with PortHolder() as holder:
        holder.claim([PublishedPort(port, 80, protocol)])
        world.publish(protocol, port)
        for space, address in (
            (world.lab.host, "127.0.0.1"),
            (world.lab.host, world.front),
            (world.neighbour, world.front),
        ):
            assert space.ask(protocol, address, port).startswith("guest ")


def test_a_held_port_of_no_running_machine_refuses_at_once(world: World) -> None:
    port = world.lab.free_port()
    with PortHolder() as holder:
        holder.claim([PublishedPort(port, 80)])
        world.table.apply([world.network], [])
        assert "refused" in world.neighbour.ask("tcp", world.front, port)


def test_guests_reach_the_outside_with_the_address_of_the_host(world: World) -> None:
    world.table.apply([world.network], [])
    port = world.lab.serve(world.neighbour, "tcp", "outside")
    assert world.guest.ask("tcp", world.neighbour.address, port) == f"outside {world.front}"


def test_guests_do_not_reach_services_of_the_host(world: World) -> None:
    service = world.lab.serve(world.lab.host, "tcp", "service")
    datagrams = world.lab.serve(world.lab.host, "udp", "service")
    assert world.guest.ask("tcp", world.network.gateway, service).startswith("service")
    world.table.apply([world.network], [])
    for address in (world.network.gateway, world.front):
        assert world.guest.ask("tcp", address, service, timeout=1).startswith("nothing")
        assert world.guest.ask("udp", address, datagrams, timeout=1).startswith("nothing")
    assert world.neighbour.ask("tcp", world.front, service).startswith("service")


def test_guests_reach_the_name_and_address_service_of_their_bridge_only(world: World) -> None:
    world.table.apply([world.network], [])
    for protocol, port in (("udp", 53), ("tcp", 53), ("udp", 67)):
        world.lab.serve(world.lab.host, protocol, "dnsmasq", address=world.network.gateway, port=port)
        assert world.guest.ask(protocol, world.network.gateway, port).startswith("dnsmasq")
    world.lab.serve(world.lab.host, "udp", "resolver", address=world.front, port=53)
    assert world.guest.ask("udp", world.front, 53, timeout=1).startswith("nothing")


def test_cve_2020_8558_neither_guest_nor_neighbour_reaches_127_0_0_1_of_the_host(world: World) -> None:
    secret = world.lab.serve(world.lab.host, "tcp", "secret", address="127.0.0.1")
    world.table.apply([world.network], [])
    send_loopback_out(world.guest, world.network.gateway)
    send_loopback_out(world.neighbour, world.front)
    assert world.guest.ask("tcp", "127.0.0.1", secret, timeout=1, source=world.guest.address).startswith("nothing")
    assert world.neighbour.ask("tcp", "127.0.0.1", secret, timeout=1, source=world.neighbour.address).startswith(
        "nothing"
    )

    for chain in ("guard", "guest_to_host"):
        nft("flush", "chain", "inet", world.table.name, chain)
    assert world.guest.ask("tcp", "127.0.0.1", secret, source=world.guest.address).startswith("secret")
    assert world.table.apply([world.network], [])
    assert world.guest.ask("tcp", "127.0.0.1", secret, timeout=1, source=world.guest.address).startswith("nothing")


def test_other_hosts_do_not_reach_guests_past_the_published_ports(world: World) -> None:
    port = world.publish(Protocol.TCP)
    hidden = world.lab.serve(world.guest, "tcp", "hidden")
    assert world.neighbour.ask("tcp", world.guest.address, hidden, timeout=1).startswith("nothing")
    assert world.neighbour.ask("tcp", world.front, port).startswith("guest")
    assert world.lab.host.ask("tcp", world.guest.address, hidden).startswith("hidden")


def test_a_guest_with_an_address_that_is_not_of_its_network_is_not_heard(world: World) -> None:
    port = world.lab.serve(world.neighbour, "udp", "outside")
    world.table.apply([world.network], [])
    world.guest.run("ip", "address", "add", "192.0.2.77/32", "dev", "eth0")
    before = world.neighbour.run("cat", "/proc/net/snmp")
    assert world.guest.ask("udp", world.neighbour.address, port, timeout=1, source="192.0.2.77").startswith("nothing")
    assert received(world.neighbour.run("cat", "/proc/net/snmp")) == received(before)


def received(snmp: str) -> int:
    names, values = [line.split() for line in snmp.splitlines() if line.startswith("Udp:")]
    return int(values[names.index("InDatagrams")])


def test_guests_of_two_agents_reach_one_another_by_published_ports_only(world: World) -> None:
    network, (stranger,) = world.lab.network("c")
    second = PublishingTable(secrets.token_hex(16))
    world.lab.stack.callback(second.clear)
    second.apply([network], [])
    port = world.publish(Protocol.TCP)
    hidden = world.lab.serve(world.guest, "tcp", "hidden")
    assert stranger.ask("tcp", world.front, port).startswith("guest ")
    assert stranger.ask("tcp", world.guest.address, hidden, timeout=1).startswith("nothing")
    second.clear()
    assert world.neighbour.ask("tcp", world.front, port).startswith("guest ")
    assert second.name not in rules()
    assert world.table.name in rules()


def test_guests_do_not_reach_containers_past_dockers_published_ports(world: World) -> None:
    """The passage that guests need through Docker's firewall would otherwise open every container to them."""
    _, (container,) = world.lab.network("d", bridge=f"br-{secrets.token_hex(6)}")
    _, (host_of_another_net,) = world.lab.network("e")
    hidden = world.lab.serve(container, "tcp", "container")
    world.lab.serve(host_of_another_net, "tcp", "other", port=hidden)
    world.table.apply([world.network], [])
    assert world.guest.ask("tcp", host_of_another_net.address, hidden).startswith("other")
    assert world.guest.ask("tcp", container.address, hidden, timeout=1).startswith("nothing")


def passages(space: Space, table: str, clear: bool = False) -> list[str]:
    """Apply a table in a namespace that plays a host of its own; what of it is then in iptables' filter table."""
    space.run(sys.executable, "-c", APPLY, table.removeprefix("garbi_"), str(clear))
    return [line for line in space.run("iptables", "-S").splitlines() if table in line]


APPLY = """
import sys
from ipaddress import IPv4Network
from garbi.hyper.drivers.protocol import GuestNetwork
from garbi.hyper.publishing.nftables import PublishingTable
table = PublishingTable(sys.argv[1])
if sys.argv[2] == "True":
    table.clear()
else:
    network = [GuestNetwork("gbr0", IPv4Network("10.9.9.0/24"), "10.9.9.1")]
    table.apply(network, [])
    assert not table.apply(network, [])
"""


def test_a_firewall_that_drops_by_policy_lets_the_guests_of_the_bridge_pass(world: World) -> None:
    """As ufw leaves a host: the policies of INPUT and FORWARD are DROP."""
    host, table = world.neighbour, world.table.name
    assert passages(host, table) == []
    for chain in ("INPUT", "FORWARD"):
        host.run("iptables", "-P", chain, "DROP")
    passed = passages(host, table)
    assert sum(line.startswith("-A FORWARD ") for line in passed) == 2
    assert sorted(line.split("--dport ")[1][:2] for line in passed if line.startswith("-A INPUT ")) == [
        "53",
        "53",
        "67",
    ]
    assert passages(host, table, clear=True) == []


def test_guests_pass_a_docker_engine_that_starts_later_restarts_or_goes(world: World) -> None:
    host, table = world.neighbour, world.table.name
    assert passages(host, table) == []
    for _ in range(2):
        host.run(
            "sh", "-c", "echo 0 > /proc/sys/net/ipv4/ip_forward"
        )  # Docker drops by policy only if it switches this on
        with engine_in(host, "--bip", "10.99.99.1/24"):
            assert "-P FORWARD DROP" in host.run("iptables", "-S")
            passed = passages(host, table)
            assert len(passed) == 2
            assert all(line.startswith("-A DOCKER-USER ") for line in passed)
    host.run("iptables", "-F")
    passed = passages(host, table)
    assert len(passed) == 2
    assert all(line.startswith("-A FORWARD ") for line in passed)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_port_that_an_iptables_rule_leads_elsewhere_is_refused(world: World, protocol: Protocol) -> None:
    port, chain = world.lab.free_port(), f"{world.lab.name}-nat"
    iptables("-t", "nat", "-N", chain)
    world.lab.stack.callback(iptables, "-t", "nat", "-X", chain)
    iptables("-t", "nat", "-A", chain, "-p", protocol, "--dport", str(port), "-j", "DNAT", "--to", "10.0.0.9:80")
    world.lab.stack.callback(iptables, "-t", "nat", "-F", chain)
    with PortHolder() as holder, pytest.raises(PortTaken, match=r"10\.0\.0\.9:80") as refused:
        holder.claim([PublishedPort(port, 80, protocol)])
    assert refused.value.extra["pid"] is None


def test_applying_what_is_there_changes_nothing(world: World) -> None:
    port = world.publish(Protocol.TCP)
    lead = [Lead(Protocol.TCP, port, world.guest.address, 80)]
    world.table.apply([world.network], lead)
    before = nft("-a", "list", "table", "inet", world.table.name)
    assert not world.table.apply([world.network], lead)
    assert nft("-a", "list", "table", "inet", world.table.name) == before


def test_a_new_lead_leaves_the_chains_in_place(world: World) -> None:
    port = world.publish(Protocol.TCP)
    before = nft("-a", "list", "chain", "inet", world.table.name, "arriving")
    assert world.table.apply([world.network], [Lead(Protocol.TCP, port, world.guest.address, 81)])
    assert nft("-a", "list", "chain", "inet", world.table.name, "arriving") == before


def test_a_table_that_somebody_deleted_is_restored(world: World) -> None:
    port = world.publish(Protocol.TCP)
    machine_port = world.lab.serve(world.guest, "tcp", "again")
    leads = [Lead(Protocol.TCP, port, world.guest.address, machine_port)]
    world.table.apply([world.network], leads)
    nft("delete", "table", "inet", world.table.name)
    assert world.table.apply([world.network], leads)
    assert world.neighbour.ask("tcp", world.front, port).startswith("again")


def test_rules_that_a_restarting_firewall_forgot_are_restored(world: World) -> None:
    port = world.publish(Protocol.TCP)
    leads = [Lead(Protocol.TCP, port, world.guest.address, world.lab.serve(world.guest, "tcp", "again"))]
    for line in rules().splitlines():
        if world.table.name in line:
            iptables("-D", *shlex.split(line)[1:])
    assert world.neighbour.ask("tcp", world.front, port, timeout=1).startswith("nothing")
    assert world.table.apply([world.network], leads)
    assert world.neighbour.ask("tcp", world.front, port).startswith("again")


def test_an_agent_that_restarts_takes_its_table_over(world: World) -> None:
    port = world.publish(Protocol.TCP)
    successor = PublishingTable(world.table.name.removeprefix("garbi_") + "0" * 24)
    assert successor.name == world.table.name
    successor.apply(
        [world.network], [Lead(Protocol.TCP, port, world.guest.address, world.lab.serve(world.guest, "tcp", "b"))]
    )
    assert world.neighbour.ask("tcp", world.front, port).startswith("b ")


@pytest.mark.parametrize("where", ["neighbour", "host", "loopback"])
def test_a_udp_client_that_never_pauses_follows_the_port_to_another_machine(world: World, where: str) -> None:
    space = world.neighbour if where == "neighbour" else world.lab.host
    address = "127.0.0.1" if where == "loopback" else world.front
    port = world.lab.free_port()
    world.table.apply([world.network], [])
    first = Lead(Protocol.UDP, port, world.guest.address, world.lab.serve(world.guest, "udp", "first"))
    second = Lead(Protocol.UDP, port, world.other_guest.address, world.lab.serve(world.other_guest, "udp", "second"))
    with PortHolder() as holder:
        holder.claim([PublishedPort(port, 80, Protocol.UDP)])
        answers = world.lab.converse(space, "udp", address, port, turns=3)
        assert next(answers).startswith("nothing")
        world.table.apply([world.network], [first])
        assert next(answers).startswith("first")
        world.table.apply([world.network], [second])
        assert next(answers).startswith("second")


def test_clearing_leaves_nothing_and_is_repeatable(world: World) -> None:
    world.publish(Protocol.TCP)
    localnet = Path("/proc/sys/net/ipv4/conf") / world.network.bridge / "route_localnet"
    assert localnet.read_text().strip() == "1"
    world.table.clear()
    world.table.clear()
    assert world.table.name not in nft("list", "tables")
    assert world.table.name not in rules()
    assert localnet.read_text().strip() == "0"


def test_forwarding_is_on_when_ports_are_published(world: World) -> None:
    world.publish(Protocol.TCP)
    assert Path("/proc/sys/net/ipv4/ip_forward").read_text().strip() == "1"


def test_a_bridge_that_is_not_there_yet_is_no_error(world: World) -> None:
    network = GuestNetwork(f"{world.lab.name}z", world.network.subnet, world.network.gateway)
    assert world.table.apply([network], [])
