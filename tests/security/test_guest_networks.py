"""Threats A: what a guest reaches of the host and around it; tests/host/test_publishing.py has the attacks on published ports."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from tests.host.publishing_lab import Lab, Space, ip, open_lab

from garbi.hyper.drivers.protocol import GuestNetwork
from garbi.hyper.publishing.nftables import PublishingTable

pytestmark = [pytest.mark.root]

METADATA = "169.254.169.254"
PROTOCOLS = ("tcp", "udp")


@dataclass(frozen=True)
class World:
    """A guest behind the table of an agent, and a neighbour of the host."""

    lab: Lab
    network: GuestNetwork
    guest: Space
    neighbour: Space
    front: str


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with open_lab() as lab:
        network, (guest,) = lab.network("b", guests=1)
        neighbour, front = lab.neighbour()
        table = PublishingTable(secrets.token_hex(16))
        lab.stack.callback(table.clear)
        table.apply([network], [])
        yield World(lab, network, guest, neighbour, front)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_guest_reaches_the_world(world: World, protocol: str) -> None:
    port = world.lab.serve(world.neighbour, protocol, "outside")
    assert world.guest.ask(protocol, world.neighbour.address, port) == f"outside {world.front}"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_guest_reaches_no_port_of_the_host_by_any_of_its_addresses(world: World, protocol: str) -> None:
    everywhere = world.lab.serve(world.lab.host, protocol, "host")
    for address in (world.network.gateway, world.front):
        assert world.lab.host.ask(protocol, address, everywhere).startswith("host")
        assert world.guest.ask(protocol, address, everywhere, timeout=1).startswith("nothing")
        assert world.guest.ask(protocol, address, 22 if protocol == "tcp" else 111, timeout=1).startswith("nothing")


def test_a_guest_is_not_given_the_credentials_of_the_host_by_the_cloud_that_it_is_in(world: World) -> None:
    world.neighbour.run("ip", "address", "add", f"{METADATA}/32", "dev", "lo")
    ip("route", "add", f"{METADATA}/32", "via", world.neighbour.address)
    port = world.lab.serve(world.neighbour, "tcp", "metadata")
    assert world.lab.host.ask("tcp", METADATA, port).startswith("metadata")
    assert world.guest.ask("tcp", METADATA, port, timeout=1).startswith("nothing")


def test_cve_2025_52890_a_guest_cannot_speak_for_the_gateway_or_for_another_network(world: World) -> None:
    port = world.lab.serve(world.neighbour, "udp", "outside")
    for source in (world.network.gateway, world.neighbour.address, "203.0.113.5"):
        world.guest.run("ip", "address", "add", f"{source}/32", "dev", "eth0")
        assert world.guest.ask("udp", world.neighbour.address, port, timeout=1, source=source).startswith("nothing")
        world.guest.run("ip", "address", "del", f"{source}/32", "dev", "eth0")
