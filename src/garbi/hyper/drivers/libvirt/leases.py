"""Ends a DHCP lease before its time, in the name of a guest that is gone (RFC 2131, DHCPRELEASE).

The server of a libvirt network keeps a lease for an hour, and gives a reserved address to nobody else meanwhile.
"""

from __future__ import annotations

import contextlib
import secrets
import socket
from ipaddress import IPv4Address

from garbi.hyper.drivers.protocol import GuestNetwork

_COOKIE = b"\x63\x82\x53\x63"
_RELEASE = b"\x35\x01\x07"
_SERVER_ID = b"\x36\x04"
_END = b"\xff"


def end_lease(network: GuestNetwork, mac: str, address: str) -> None:
    """Tell the network's server that the guest gives the address back. Without the right to, the lease ends by itself."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, network.bridge.encode() + b"\0")
        sender.sendto(release_message(network.gateway, mac, address), (network.gateway, 67))


def release_message(server: str, mac: str, address: str) -> bytes:
    """The message by which the guest with that MAC gives `address` back to `server`."""
    header = bytes([1, 1, 6, 0]) + secrets.token_bytes(4) + bytes(4)
    addresses = IPv4Address(address).packed + bytes(12)
    hardware = bytes.fromhex(mac.replace(":", "")).ljust(16, b"\0")
    options = _COOKIE + _RELEASE + _SERVER_ID + IPv4Address(server).packed + _END
    return (header + addresses + hardware + bytes(192) + options).ljust(300, b"\0")
