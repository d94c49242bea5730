"""The nftables table of one agent as text: pure, so that every packet's way through it can be read in one place.

Values come in as numbers and addresses, and names of interfaces and tables are checked, so that nothing of a user's can
become a rule. (JSON input would do without this check, but nft 1.0.6 crashes on a map whose values have two parts.)
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from garbi.base.errors import InvalidField
from garbi.hyper.drivers.protocol import GuestNetwork
from garbi.hyper.model.machine import Protocol

_INTERFACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,14}\Z")


@dataclass(frozen=True, slots=True, order=True)
class Lead:
    """A port of the host, on all its IPv4 addresses, that leads to a port of a machine that has an address."""

    protocol: Protocol
    node_port: int
    address: str
    machine_port: int


def table_text(table: str, networks: Sequence[GuestNetwork], leads: Iterable[Lead], isolated: Collection[str]) -> str:
    """The script that replaces the whole table in one transaction.

    `isolated` names bridges of others (Docker's) that guests must not reach but through a published port.
    """
    bridges = _interfaces(network.bridge for network in networks)
    blocks = [
        _map(leads),
        _publish(),
        _guard(networks, bridges),
        _input(networks, bridges),
        _forward(networks, bridges, _interfaces(isolated) if isolated else ""),
        _postrouting(networks, bridges),
    ]
    body = "\n".join(block for block in blocks if block)
    return f"add table inet {table}\ndelete table inet {table}\ntable inet {table} {{\n{body}\n}}\n"


def leads_text(table: str, leads: Iterable[Lead]) -> str:
    """The script that replaces only where ports lead, in one transaction; the chains stay hooked."""
    elements = _elements(leads)
    refill = f"add element inet {table} leads {{ {elements} }}\n" if elements else ""
    return f"flush map inet {table} leads\n{refill}"


def removal_text(table: str) -> str:
    """The script after which the table is gone, whether it was there or not."""
    return f"add table inet {table}\ndelete table inet {table}\n"


def _map(leads: Iterable[Lead]) -> str:
    elements = _elements(leads)
    content = f" elements = {{ {elements} }}" if elements else ""
    return f"map leads {{ type inet_proto . inet_service : ipv4_addr . inet_service;{content} }}"


def _elements(leads: Iterable[Lead]) -> str:
    return ", ".join(
        f"{Protocol(lead.protocol)} . {int(lead.node_port)} : {IPv4Address(lead.address)} . {int(lead.machine_port)}"
        for lead in sorted(leads)
    )


def _publish() -> str:
    """Whatever goes to one of the host's own addresses, from outside, a guest or the host itself, is looked up."""
    return """chain publish { dnat ip to meta l4proto . th dport map @leads; }
chain arriving {
  type nat hook prerouting priority -105; policy accept;
  ip daddr 127.0.0.0/8 return
  meta nfproto ipv4 fib daddr type local jump publish
}
chain departing {
  type nat hook output priority -105; policy accept;
  meta nfproto ipv4 fib daddr type local jump publish
}"""


def _guard(networks: Sequence[GuestNetwork], bridges: str) -> str:
    """Before anything else: guests have the addresses of their network, and never reach the host's own.

    `route_localnet` on the bridge, which the host's own way by 127.0.0.1 takes, would open it to them (CVE-2020-8558). Where
    the host is in a cloud itself, 169.254.0.0/16 gives out the host's credentials; no router forwards it (RFC 3927).
    """
    if not networks:
        return ""
    lines = [
        f"iifname != {bridges} accept",
        "meta nfproto ipv6 drop",
        "ip daddr { 127.0.0.0/8, 169.254.0.0/16 } drop",
        "ip saddr 0.0.0.0 udp sport 68 udp dport 67 accept",
    ]
    for network in networks:
        bridge, subnet, gateway = _parts(network)
        lines.append(f'iifname "{bridge}" ip saddr != {subnet} drop')
        lines.append(f'iifname "{bridge}" ip saddr {gateway} drop')
    return _chain("guard", "filter", "prerouting", -300, lines)


def _input(networks: Sequence[GuestNetwork], bridges: str) -> str:
    """Of the host itself guests reach the address and name service of their bridge, and an answer to ping."""
    if not networks:
        return ""
    lines = [f"iifname != {bridges} accept", "ct state established,related accept", "udp dport 67 accept"]
    for network in networks:
        bridge, _, gateway = _parts(network)
        lines.append(f'iifname "{bridge}" ip daddr {gateway} meta l4proto {{ tcp, udp }} th dport 53 accept')
        lines.append(f'iifname "{bridge}" ip daddr {gateway} icmp type echo-request accept')
    lines.append("reject with icmpx admin-prohibited")
    return _chain("guest_to_host", "filter", "input", 0, lines)


def _forward(networks: Sequence[GuestNetwork], bridges: str, isolated: str) -> str:
    """Nobody reaches a guest but by a published port; guests reach one another and the outside."""
    if not networks:
        return ""
    lines = ["ct state established,related accept"]
    lines += [f'iifname "{bridge}" oifname "{bridge}" accept' for bridge, _, _ in map(_parts, networks)]
    lines.append(f"oifname {bridges} ct status dnat accept")
    lines.append(f"oifname {bridges} reject with icmpx admin-prohibited")
    if isolated:
        lines.append(f"iifname {bridges} oifname {isolated} ct status ! dnat reject with icmpx admin-prohibited")
    return _chain("through", "filter", "forward", 0, lines)


def _postrouting(networks: Sequence[GuestNetwork], bridges: str) -> str:
    """A guest answers to the bridge where its answer would otherwise miss the way back through the table."""
    if not networks:
        return ""
    lines = [f"oifname {bridges} ip saddr 127.0.0.0/8 masquerade"]
    for network in networks:
        bridge, subnet, _ = _parts(network)
        lines.append(f'oifname "{bridge}" ip saddr {subnet} ct status dnat masquerade')
        lines.append(f'oifname != {{ "lo", "{bridge}" }} ip saddr {subnet} masquerade')
    return _chain("leaving", "nat", "postrouting", 95, lines)


def _chain(name: str, kind: str, hook: str, priority: int, lines: Iterable[str]) -> str:
    body = "\n".join(f"  {line}" for line in lines)
    return f"chain {name} {{\n  type {kind} hook {hook} priority {priority}; policy accept;\n{body}\n}}"


def _parts(network: GuestNetwork) -> tuple[str, IPv4Network, IPv4Address]:
    return check_interface(network.bridge), IPv4Network(network.subnet), IPv4Address(network.gateway)


def _interfaces(names: Iterable[str]) -> str:
    quoted = ", ".join(f'"{check_interface(name)}"' for name in sorted(names))
    return f"{{ {quoted} }}"


def check_interface(name: str) -> str:
    """Return `name` if it can be the name of an interface and nothing else; raise InvalidField otherwise."""
    if not _INTERFACE.match(name):
        raise InvalidField("bridge", f"bridge {name[:80]!r} is not the name of an interface")
    return name
