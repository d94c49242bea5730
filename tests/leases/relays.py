"""Ways between processes of this host that can be cut: relays, which tell by the first line of a connection who asks."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

from tests.free_ports import free_port

WITNESS = b"/witness HTTP/"
SIZE = 64 * 1024


class Relay:
    """A way to one agent. What is sent on a way that is cut is neither answered nor refused, as when a cable was pulled.

    `cut_for` names who is cut off: `controller`, and `peers`, which are other nodes that ask when they were renewed.
    """

    def __init__(self, target: int) -> None:
        self.port, self._target = free_port(), target
        self.cut_for: set[str] = set()
        self._listening = socket.create_server(("127.0.0.1", self.port), backlog=64)
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, name=f"relay-{self.port}", daemon=True).start()

    def close(self) -> None:
        """Let go of everything."""
        with self._lock:
            for each in (self._listening, *self._open):
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
                each.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError):
            self._hold(client)
            first = client.recv(SIZE)
            who = "peers" if WITNESS in first.partition(b"\r\n")[0] else "controller"
            if not first or who in self.cut_for:
                return  # it stays open and silent until the relay ends
            server = socket.create_connection(("127.0.0.1", self._target))
            self._hold(server)
            server.sendall(first)
            back = threading.Thread(target=self._pass_on, args=(server, client, who), daemon=True)
            back.start()
            self._pass_on(client, server, who)

    def _hold(self, end: socket.socket) -> None:
        with self._lock:
            self._open.add(end)

    def _pass_on(self, source: socket.socket, sink: socket.socket, who: str) -> None:
        with suppress(OSError):
            while content := source.recv(SIZE):
                if who in self.cut_for:
                    return
                sink.sendall(content)
        for each in (source, sink):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            with self._lock:
                self._open.discard(each)
            each.close()
