"""Guests of a few instructions, as raw disks that boot in a second: what a tenant with all rights inside may do."""

from __future__ import annotations

import struct

SECTOR = 512
DISK = 1 << 20
DONE = "the guest is done"

_WRITE_AND_SAY = bytes.fromhex(
    "31c0 8ed8 8ec0 8ed0 bc007c fb"  # segments and stack
    "be607c b442 cd13"  # read sector 1 ...
    "be707c b80043 cd13"  # ... and write it over sector 0, in which this very program was
    "be807c baf803 ac 84c0 7403 ee ebf8"  # say the text over the serial line
    "f4 ebfd"  # and halt
)
_FLOOD = bytes.fromhex("baf803 b058 ee ebfd")  # X over the serial line for ever
_BUFFER = 0x8000


def writer(content: bytes, text: bytes = b"") -> bytes:
    """A disk whose guest puts `content`, of one sector, at the start of its disk, and says `text` on its console."""
    program = bytearray(SECTOR)
    program[: len(_WRITE_AND_SAY)] = _WRITE_AND_SAY
    program[0x60:0x70] = struct.pack("<BBHHHQ", 16, 0, 1, _BUFFER, 0, 1)
    program[0x70:0x80] = struct.pack("<BBHHHQ", 16, 0, 1, _BUFFER, 0, 0)
    said = text + DONE.encode() + b"\r\n\0"
    assert len(said) <= 0x1B0 - 0x80
    program[0x80 : 0x80 + len(said)] = said
    return _bootable(program) + content.ljust(SECTOR, b"\0") + bytes(DISK - 2 * SECTOR)


def flooder() -> bytes:
    """A disk whose guest writes to its console for ever."""
    program = bytearray(SECTOR)
    program[: len(_FLOOD)] = _FLOOD
    return _bootable(program) + bytes(DISK - SECTOR)


def _bootable(program: bytearray) -> bytes:
    program[510:512] = b"\x55\xaa"
    return bytes(program)
