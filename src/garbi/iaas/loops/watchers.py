"""The watchers of all nodes: one for each node that is asked how it is."""

from __future__ import annotations

import threading

from garbi.iaas.loops.watching import NodeWatch, Report, Watching
from garbi.iaas.monitor.verdict import WATCHED
from garbi.iaas.store import nodes


class Watchers:
    """Which nodes are watched, and what they last said."""

    def __init__(self, parts: Watching) -> None:
        self._parts = parts
        self._lock = threading.Lock()
        self._watches: dict[str, NodeWatch] = {}
        self._closed = False

    def start(self) -> None:
        """Watch every node that was met."""
        with self._parts.database.read() as connection:
            known = nodes.list(connection)
        for node in known:
            if node.state in WATCHED:
                self.watch(node.name)

    def watch(self, name: str) -> None:
        """Begin to watch a node, anew if it was watched before."""
        self.unwatch(name)
        with self._lock:
            if self._closed:
                return
            watch = self._watches[name] = NodeWatch(name, self._parts)
        watch.start()

    def unwatch(self, name: str) -> None:
        """Watch a node no more, and let go of the connections to it."""
        with self._lock:
            watch = self._watches.pop(name, None)
        if watch is not None:
            watch.stop()
        self._parts.clients.forget(name)

    def report_of(self, name: str) -> Report | None:
        """What a node last said, if it was heard since the controller began."""
        with self._lock:
            watch = self._watches.get(name)
        return watch.report if watch is not None else None

    def stop(self) -> None:
        """Watch nothing more."""
        with self._lock:
            self._closed = True
            watches = list(self._watches.values())
        for watch in watches:
            watch.stop()

    def join(self, patience_s: float) -> None:
        """Wait for the threads, at most `patience_s` seconds altogether."""
        deadline = self._parts.clock.monotonic() + patience_s
        for watch in list(self._watches.values()):
            watch.join(max(deadline - self._parts.clock.monotonic(), 0))
