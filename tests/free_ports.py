"""Ports that nobody has: below those that the kernel gives to outgoing connections, so that none is taken in between."""

from __future__ import annotations

import random
import socket
from contextlib import suppress

LOWEST, HIGHEST = 15000, 32000
_given: set[int] = set()


def free_port() -> int:
    """A port that is free for TCP and UDP on every address, and that this process was not given before."""
    while True:
        port = random.randint(LOWEST, HIGHEST)
        if port not in _given and _is_free(port):
            _given.add(port)
            return port


def _is_free(port: int) -> bool:
    with suppress(OSError):
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            with socket.socket(socket.AF_INET, kind) as probe:
                probe.bind(("0.0.0.0", port))
        return True
    return False
