"""The server of both services: what its connections are like."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

from fastapi import FastAPI

from garbi.web.server import Service


def test_a_kept_connection_holds_no_part_of_an_answer_back() -> None:
    with running(FastAPI()) as port:
        connection = HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("GET", "/openapi.json")
        assert connection.getresponse().read()
        with accepted(connection.sock) as served:
            assert served.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        connection.close()


@contextmanager
def running(app: FastAPI) -> Iterator[int]:
    """The port of a server that answers while the block runs."""
    service = Service(app, "127.0.0.1", 0, lambda: None)
    thread = threading.Thread(target=service.run)
    thread.start()
    try:
        port = urlsplit(service.url).port
        assert port is not None
        yield port
    finally:
        service.stop()
        thread.join()


@contextmanager
def accepted(client: socket.socket) -> Iterator[socket.socket]:
    """The server's end of a connection within this process."""
    for entry in Path("/proc/self/fd").iterdir():
        if not entry.is_socket():
            continue
        with socket.socket(fileno=os.dup(int(entry.name))) as found:
            if found.family == client.family and peer_of(found) == client.getsockname():
                yield found
                return
    raise AssertionError("nobody serves this connection")


def peer_of(end: socket.socket) -> object:
    try:
        return end.getpeername()
    except OSError:
        return None
