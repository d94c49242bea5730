"""Ports that nobody has: below those that the kernel gives to outgoing connections, so that none is taken in between."""

from __future__ import annotations

import os
import random
import socket
from contextlib import suppress

LOWEST, HIGHEST = 15000, 32000
WORKER, WORKERS = (
    int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")),
    int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")),
)
"""Processes that run tests at the same time take each their own ports: those with the same rest."""

_given: set[int] = set()


def free_port() -> int:
    """A port that is free for TCP and UDP on every address, and that this process was not given before."""
    while True:
        port = random.randrange(LOWEST + WORKER, HIGHEST, WORKERS)
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
