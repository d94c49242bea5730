"""Ask the kernel over netlink, for the few answers that no file of /proc gives."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator

SOCK_DIAG = 4
NETFILTER = 12

_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_ERROR, _DONE = 2, 3
_REQUEST, _ACK, _DUMP = 0x1, 0x4, 0x300
_TYPE_MASK = 0x3FFF


def dump(family: int, kind: int, payload: bytes) -> Iterator[bytes]:
    """The body of every message of the kernel's answer; raises OSError when it refuses."""
    with _open(family) as link:
        link.send(_message(kind, _REQUEST | _DUMP, payload))
        while True:
            for kind_of_answer, body in _messages(link.recv(1 << 18)):
                if kind_of_answer == _DONE:
                    return
                if kind_of_answer == _ERROR:
                    _raise_for(body)
                yield body


def request(family: int, kind: int, payload: bytes) -> None:
    """Have the kernel do something; raises OSError with its error number when it does not."""
    with _open(family) as link:
        link.send(_message(kind, _REQUEST | _ACK, payload))
        for kind_of_answer, body in _messages(link.recv(1 << 16)):
            if kind_of_answer == _ERROR:
                _raise_for(body)


def attributes(data: bytes) -> dict[int, bytes]:
    """The attributes of a message or of a nested attribute, by type."""
    found: dict[int, bytes] = {}
    offset = 0
    while offset + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < _ATTRIBUTE.size:
            break
        found[kind & _TYPE_MASK] = data[offset + _ATTRIBUTE.size : offset + length]
        offset += _aligned(length)
    return found


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute, padded."""
    length = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(length, kind) + value + b"\0" * (_aligned(length) - length)


def _open(family: int) -> socket.socket:
    link = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, family)
    link.settimeout(5)
    link.bind((0, 0))
    return link


def _message(kind: int, flags: int, payload: bytes) -> bytes:
    return _HEADER.pack(_HEADER.size + len(payload), kind, flags, 1, 0) + payload


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while offset + _HEADER.size <= len(data):
        length, kind, *_ = _HEADER.unpack_from(data, offset)
        if length < _HEADER.size:
            return
        yield kind, data[offset + _HEADER.size : offset + length]
        offset += _aligned(length)


def _raise_for(body: bytes) -> None:
    (number,) = struct.unpack_from("=i", body)
    if number:
        raise OSError(-number, os.strerror(-number))


def _aligned(length: int) -> int:
    return (length + 3) & ~3
