"""Make the kernel forget where flows of a port were led, when the port leads elsewhere now.

The kernel looks a flow up in the table once, at its first packet. A client that keeps sending UDP from one socket would be
led to the former machine (or to nobody) for as long as it sends.
"""

from __future__ import annotations

import errno
import logging
import socket
import struct
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from itertools import pairwise
from pathlib import Path

from garbi.hyper.host import netlink
from garbi.hyper.model.machine import Protocol
from garbi.hyper.publishing.ruleset import Lead

_GET, _DELETE = (1 << 8) | 1, (1 << 8) | 2
_ORIGINAL, _REPLY, _ID = 1, 2, 12
_IP, _PROTO = 1, 2
_SOURCE, _DESTINATION = 1, 2
_NUMBER, _SOURCE_PORT, _DESTINATION_PORT = 1, 2, 3
_NUMBERS = {socket.IPPROTO_TCP: Protocol.TCP, socket.IPPROTO_UDP: Protocol.UDP}
_FAMILY = struct.pack("=BBH", socket.AF_INET, 0, 0)

Key = tuple[Protocol, int]
Target = tuple[IPv4Address, int]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Flow:
    key: Key
    destination: IPv4Address
    led_to: Target
    attributes: Mapping[int, bytes]


def forget_flows(changed: Collection[Key], former: Mapping[Key, Lead], present: Mapping[Key, Lead]) -> int:
    """Forget the flows to these ports that are led where the former table led them, or nowhere yet; return how many."""
    if not changed:
        return 0
    try:
        flows = [
            flow for flow in map(_flow, netlink.dump(netlink.NETFILTER, _GET, _FAMILY)) if flow and flow.key in changed
        ]
        local = _local_addresses() if flows else set()
        stale = [flow for flow in flows if _is_stale(flow, former, present, local)]
        return sum(_delete(flow) for flow in stale)
    except OSError as error:
        _log.warning("flows to %d changed ports may still go to former machines: %s", len(changed), error)
        return 0


def _is_stale(flow: _Flow, former: Mapping[Key, Lead], present: Mapping[Key, Lead], local: set[IPv4Address]) -> bool:
    if flow.led_to == _target(present.get(flow.key)):
        return False
    led_nowhere = flow.led_to == (flow.destination, flow.key[1])
    if led_nowhere:
        return flow.destination in local or flow.destination.is_loopback
    return flow.led_to == _target(former.get(flow.key))


def _target(lead: Lead | None) -> Target | None:
    return (IPv4Address(lead.address), lead.machine_port) if lead else None


def _flow(body: bytes) -> _Flow | None:
    fields = netlink.attributes(body[len(_FAMILY) :])
    original = netlink.attributes(fields.get(_ORIGINAL, b""))
    proto = netlink.attributes(original.get(_PROTO, b""))
    protocol = _NUMBERS.get((proto.get(_NUMBER) or b"\0")[0])
    if protocol is None:
        return None
    reply = netlink.attributes(fields.get(_REPLY, b""))
    destination = netlink.attributes(original.get(_IP, b"")).get(_DESTINATION, b"")
    answering = netlink.attributes(reply.get(_IP, b"")).get(_SOURCE, b"")
    answering_port = netlink.attributes(reply.get(_PROTO, b"")).get(_SOURCE_PORT, b"\0\0")
    if len(destination) != 4 or len(answering) != 4:
        return None
    port = int.from_bytes(proto.get(_DESTINATION_PORT, b"\0\0"), "big")
    led_to = (IPv4Address(answering), int.from_bytes(answering_port, "big"))
    return _Flow((protocol, port), IPv4Address(destination), led_to, fields)


def _delete(flow: _Flow) -> bool:
    nested = 0x8000
    body = _FAMILY + netlink.attribute(_ORIGINAL | nested, flow.attributes[_ORIGINAL])
    if _ID in flow.attributes:
        body += netlink.attribute(_ID, flow.attributes[_ID])
    try:
        netlink.request(netlink.NETFILTER, _DELETE, body)
    except OSError as error:
        if error.errno == errno.ENOENT:
            return False
        raise
    return True


def _local_addresses() -> set[IPv4Address]:
    """The host's own IPv4 addresses, as the kernel's routing tree tells them."""
    lines = Path("/proc/net/fib_trie").read_text().splitlines()
    pairs = pairwise(lines)
    return {IPv4Address(above.split()[-1]) for above, below in pairs if below.strip() == "/32 host LOCAL"}
