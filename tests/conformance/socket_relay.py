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
            for source, sink in ((client, daemon), (daemon, client)):
                threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while chunk := source.recv(65536):
                sink.sendall(chunk)
            sink.shutdown(socket.SHUT_WR)  # half-closed, as Docker's attach and exec need
            return
        with self._lock:
            self._open -= {source, sink}
        _shut(source)
        _shut(sink)


def _shut(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
