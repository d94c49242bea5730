"""A Unix socket in front of a daemon's: it lets a test take the daemon away from one driver, and from nobody else."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path


class SocketRelay:
    """Relay every connection to `path` on to `daemon`; when broken, cut and refuse. `cut()` it for good at the end."""

    def __init__(self, path: Path, daemon: Path) -> None:
        self._path = path
        self._daemon = daemon
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._listener: socket.socket | None = None
        self.mend()

    @contextlib.contextmanager
    def broken(self) -> Iterator[None]:
        """Cut every connection and refuse new ones inside the block."""
        self.cut()
        try:
            yield
        finally:
            self.mend()

    def mend(self) -> None:
        """Listen again."""
        self._path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(self._path))
        listener.listen(64)
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def cut(self) -> None:
        """Stop listening and end every connection; also the way to close the relay."""
        listener, self._listener = self._listener, None
        if listener is not None:
            _shut(listener)
        self._path.unlink(missing_ok=True)
        with self._lock:
            ended, self._open = self._open, set()
        for end in ended:
            _shut(end)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            daemon = socket.socket(socket.AF_UNIX)
            try:
                daemon.connect(str(self._daemon))
            except OSError:
                _shut(client)
                continue
            with self._lock:
                alive = self._listener is listener
                if alive:
                    self._open |= {client, daemon}
            if not alive:
                _shut(client)
                _shut(daemon)
                return
            threading.Thread(target=self._carry, args=(client, daemon), daemon=True).start()

    def _carry(self, client: socket.socket, daemon: socket.socket) -> None:
        """Both ways, until both have ended; then nothing of the connection stays open."""
        back = threading.Thread(target=_pump, args=(daemon, client), daemon=True)
        back.start()
        _pump(client, daemon)
        back.join()
        with self._lock:
            self._open -= {client, daemon}
        for end in (client, daemon):
            end.close()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while chunk := source.recv(65536):
            sink.sendall(chunk)
        sink.shutdown(socket.SHUT_WR)  # half-closed, as Docker's attach and exec need
        return
    for end in (source, sink):  # cut off in the middle: the other way ends, too
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def _shut(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
