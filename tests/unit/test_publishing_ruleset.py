"""The text of the table, and what iptables' own words tell; no kernel."""

from __future__ import annotations

from ipaddress import IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from garbi.base.errors import InvalidField
from garbi.hyper.drivers.protocol import GuestNetwork
from garbi.hyper.model.machine import Protocol
from garbi.hyper.publishing.nftables import PublishingTable
from garbi.hyper.publishing.redirects import find_redirect
from garbi.hyper.publishing.ruleset import Lead, check_interface, leads_text, table_text

NETWORK = GuestNetwork("gbr0", IPv4Network("10.9.0.0/24"), "10.9.0.1")
LEADS = [Lead(Protocol.TCP, 8080, "10.9.0.2", 80), Lead(Protocol.UDP, 53, "10.9.0.3", 5353)]

RULES = """
*nat
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A DOCKER ! -i docker0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80
-A DOCKER -p udp -m udp --dport 6000:6010 -j DNAT --to-destination 172.17.0.3
-A OTHER -p tcp -m multiport --dports 90,443,7000:7005 -m comment --comment "two words" -j REDIRECT --to-ports 8443
-A OTHER -p tcp -m tcp ! --dport 22 -j DNAT --to-destination 172.17.0.4:22
-A OTHER -p tcp -m tcp --dport 9999 -j ACCEPT -m comment --comment DNAT
COMMIT
"""


def test_every_lead_is_one_element_of_one_map_and_there_is_one_dnat_rule() -> None:
    text = table_text("garbi_0", [NETWORK], LEADS, [])
    assert text.count("dnat ip to") == 1
    assert "tcp . 8080 : 10.9.0.2 . 80" in text
    assert "udp . 53 : 10.9.0.3 . 5353" in text


def test_the_order_of_networks_and_leads_does_not_change_the_text() -> None:
    assert leads_text("t", LEADS) == leads_text("t", reversed(LEADS))


def test_without_leads_the_map_is_emptied() -> None:
    assert leads_text("t", []) == "flush map inet t leads\n"


@given(st.text())
def test_no_name_of_a_bridge_becomes_a_rule(name: str) -> None:
    try:
        check_interface(name)
    except InvalidField:
        with pytest.raises(InvalidField):
            table_text("t", [GuestNetwork(name, NETWORK.subnet, NETWORK.gateway)], [], [])
    else:
        assert name.isascii()
        assert not set(name) & set(' \n\r\t"{};,*')


@pytest.mark.parametrize("address", ["10.9.0.2; drop", "10.9.0.2\n", "", "::1", "host"])
def test_no_address_becomes_a_rule(address: str) -> None:
    with pytest.raises(ValueError, match=r"Address|address|octets|digits|permitted"):
        leads_text("t", [Lead(Protocol.TCP, 1, address, 1)])


def test_a_cluster_id_that_is_not_hexadecimal_names_no_table() -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        PublishingTable("x; flush ruleset")


@pytest.mark.parametrize(
    ("protocol", "port", "target"),
    [
        ("tcp", 8080, "172.17.0.2:80"),
        ("udp", 8080, None),
        ("udp", 6005, "172.17.0.3"),
        ("udp", 6011, None),
        ("tcp", 443, "8443"),
        ("tcp", 7003, "8443"),
        ("tcp", 23, None),
        ("tcp", 9999, None),
    ],
)
def test_a_rule_that_leads_a_port_elsewhere_is_found(protocol: str, port: int, target: str | None) -> None:
    assert find_redirect(RULES, Protocol(protocol), port) == target
