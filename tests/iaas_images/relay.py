"""A wire between a client and a server that counts what passes, and can be cut in the middle of a request."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

BLOCK = 65536
LIMIT_S = 120.0


@dataclass
class Relay:
    """`sent` is how many bytes clients sent; `cuts` are the numbers of bytes at which the wire breaks, once each."""

    target: tuple[str, int]
    listener: socket.socket
    sent: int = 0
    cuts: list[int] = field(default_factory=list)
    broken: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _threads: list[threading.Thread] = field(default_factory=list)
    _open: set[socket.socket] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.listener.getsockname()[1]}"

    def serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                self._start(self._carry, client)

    def close(self) -> None:
        for each in list(self._open):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(LIMIT_S)
            assert not thread.is_alive()

    def _start(self, work: object, *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _carry(self, client: socket.socket) -> None:
        with client, socket.create_connection(self.target) as server:
            self._open |= {client, server}
            back = threading.Thread(target=self._back, args=(server, client))
            back.start()
            with suppress(OSError):
                while block := client.recv(BLOCK):
                    left = self._count(len(block))
                    server.sendall(block[:left])
                    if left < len(block):
                        break
            for end in (server, client):
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
            back.join(LIMIT_S)
            self._open -= {client, server}

    def _back(self, server: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while block := server.recv(BLOCK):
                client.sendall(block)
            client.shutdown(socket.SHUT_WR)

    def _count(self, more: int) -> int:
        """How many of the bytes get through."""
        with self._lock:
            if self.cuts and self.sent + more > self.cuts[0]:
                through = self.cuts.pop(0) - self.sent
                self.sent += through
                self.broken += 1
                return through
            self.sent += more
            return more


@contextmanager
def relay_to(url: str, *cuts: int) -> Iterator[Relay]:
    """A relay to the server at `url`."""
    address = urlsplit(url)
    assert address.hostname is not None
    assert address.port is not None
    with socket.create_server(("127.0.0.1", 0)) as listener:
        relay = Relay((address.hostname, address.port), listener, cuts=list(cuts))
        thread = threading.Thread(target=relay.serve)
        thread.start()
        try:
            yield relay
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(LIMIT_S)
            relay.close()
