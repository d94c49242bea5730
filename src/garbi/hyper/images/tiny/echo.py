"""The UDP echo server of the tiny images: 138 bytes of x86-64 machine code, because busybox has no UDP server.

The program does socket(), bind(0.0.0.0:7), and for ever recvfrom() and sendto(); it ends with code 1 when it cannot
listen.
"""

from __future__ import annotations

import struct

_TEXT = 0x400000
_DATA = 0x600000
_PEER = _DATA + 0x10
_BUFFER = _DATA + 0x100
_BUFFER_SIZE = 0x10000
_HEADERS = 64 + 2 * 56
_PORT = 7


def _imm(value: int) -> bytes:
    return struct.pack("<I", value)


def _code(address_of_sockaddr: int) -> bytes:
    start = (
        *(b"\xb8", _imm(41), b"\xbf", _imm(2), b"\xbe", _imm(2), b"\x31\xd2\x0f\x05"),  # socket(AF_INET, SOCK_DGRAM, 0)
        b"\x89\xc3",  # mov ebx, eax
        *(b"\xb8", _imm(49), b"\x89\xdf\xbe", _imm(address_of_sockaddr)),  # bind(ebx, sockaddr,
        *(b"\xba", _imm(16), b"\x0f\x05"),  # 16)
        b"\x85\xc0\x75\x52",  # if it failed, go to `fail`
    )
    again = (
        *(b"\xc7\x04\x25", _imm(_DATA), _imm(16)),  # length of the peer's address
        *(b"\xb8", _imm(45), b"\x89\xdf\xbe", _imm(_BUFFER), b"\xba"),  # recvfrom(ebx, buffer,
        *(
            _imm(_BUFFER_SIZE),
            b"\x45\x31\xd2\x41\xb8",
            _imm(_PEER),
            b"\x41\xb9",
            _imm(_DATA),
            b"\x0f\x05",
        ),  # size, 0, peer, &length)
        b"\x85\xc0\x78\x21\x89\xc2",  # if it failed, go to `fail`; edx = received
        *(b"\xb8", _imm(44), b"\x89\xdf\xbe", _imm(_BUFFER)),  # sendto(ebx, buffer, edx,
        *(b"\x45\x31\xd2\x41\xb8", _imm(_PEER), b"\x41\xb9", _imm(16), b"\x0f\x05"),  # 0, peer, 16)
        b"\xeb\xae",  # again, whatever came of it
    )
    fail = (b"\xb8", _imm(60), b"\xbf", _imm(1), b"\x0f\x05")  # exit(1)
    return b"".join(start + again + fail)


def udp_echo_program() -> bytes:
    """A static ELF executable for Linux on x86-64 that answers each datagram on port 7 with the same datagram."""
    code = _code(_TEXT + _HEADERS + len(_code(0)))
    sockaddr = struct.pack("<H", 2) + struct.pack(">H", _PORT) + bytes(12)
    size = _HEADERS + len(code) + len(sockaddr)
    ident = b"\x7fELF" + bytes((2, 1, 1)) + bytes(9)
    header = ident + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, _TEXT + _HEADERS, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    text = struct.pack("<IIQQQQQQ", 1, 5, 0, _TEXT, _TEXT, size, size, 0x1000)
    data = struct.pack("<IIQQQQQQ", 1, 6, 0, _DATA, _DATA, 0, 0x100 + _BUFFER_SIZE, 0x1000)
    return header + text + data + code + sockaddr
