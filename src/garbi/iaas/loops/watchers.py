"""The watchers of all nodes: one for each node that is asked how it is."""

from __future__ import annotations

import threading
from dataclasses import replace

from garbi.base.clock import Clock
from garbi.hyper_api.client import HyperClient
from garbi.iaas.loops.silence import Silences
from garbi.iaas.loops.watching import CHECK_S, NodeWatch, Report, Watching
from garbi.iaas.model.node import Node
from garbi.iaas.monitor.failover import long_gone
from garbi.iaas.monitor.verdict import WATCHED, is_watched
from garbi.iaas.nodes import speaking_to
from garbi.iaas.store import nodes
from garbi.iaas.store.database import Database
from garbi.iaas.store.restoring import raise_lease

RENEWALS = 2
"""The second one has seen the first: from then on a lease counts from a moment of the host's own clock."""


class Watchers:
    """Which nodes are watched, and what they last said."""

    def __init__(self, parts: Watching) -> None:
        self._parts = parts
        self._lock = threading.Lock()
        self._watches: dict[str, NodeWatch] = {}
        self._closed = False

    def start(self) -> None:
        """Watch every node that was met, or whose agent is waited for."""
        with self._parts.database.read() as connection:
            known = nodes.list(connection)
        for node in known:
            if is_watched(node):
                self.watch(node.name)

    def watch(self, name: str) -> None:
        """Begin to watch a node, anew if it was watched before."""
        self.unwatch(name)
        with self._lock:
            if self._closed:
                return
            watch = self._watches[name] = NodeWatch(name, self._parts)
        watch.start()
        self._parts.stir()  # there may be room now

    def unwatch(self, name: str) -> None:
        """Watch a node no more, and let go of the connections to it."""
        with self._lock:
            watch = self._watches.pop(name, None)
        if watch is not None:
            watch.stop()
        self._parts.clients.forget(name)
        self._parts.book.forget(name)
        self._parts.stir()

    def report_of(self, name: str) -> Report | None:
        """What a node last said, if it was heard since the controller began."""
        with self._lock:
            watch = self._watches.get(name)
        return watch.report if watch is not None else None

    def renew(self, node: Node) -> None:
        """Begin the lease of a node that is not watched yet; raises what the requests meet."""
        parts = self._parts
        parts.book.forget(node.name)
        with speaking_to(node.name):
            client = parts.clients.prober_of(node, CHECK_S)
            node = self._caught_up(node, client)
            for _ in range(RENEWALS):
                parts.book.check(node, client, (*parts.roster(), node.address))

    def look_soon(self, name: str) -> None:
        """Have a node asked how it is now, with the secret that it has by now."""
        self._parts.clients.forget(name)
        with self._lock:
            watch = self._watches.get(name)
        if watch is not None:
            watch.look_soon()

    def heard_since(self, name: str, moment: float) -> bool:
        """Whether a node has answered after a moment of the monotonic clock."""
        with self._lock:
            watch = self._watches.get(name)
        return watch is not None and watch.answered_at is not None and watch.answered_at > moment

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

    def _caught_up(self, node: Node, client: HyperClient) -> Node:
        """The node with a lease no earlier than its agent has heard of: it may have been a node of this cloud before."""
        heard = [
            int(each["number"]) for each in client.leases.list() if each["controller"] == self._parts.controller_id
        ]
        number = max(heard, default=0)
        if number <= node.lease:
            return node
        with self._parts.database.write() as transaction:
            raise_lease(transaction, node.name, number)
        return replace(node, lease=number)


class Roster:
    """The addresses of the nodes that are told to ask one another: all that are watched, but those that fell silent alone long
    ago, whose silence would be taken for that of somebody who may answer yet. Read once in a while, however often it is
    asked for.
    """

    def __init__(self, database: Database, clock: Clock, every_s: float, silences: Silences) -> None:
        self._database = database
        self._clock = clock
        self._every_s = every_s
        self._silences = silences
        self._lock = threading.Lock()
        self._read_at = float("-inf")
        self._addresses: tuple[str, ...] = ()

    def __call__(self) -> tuple[str, ...]:
        """The addresses, in the order of the names."""
        with self._lock:
            now = self._clock.monotonic()
            if now - self._read_at >= self._every_s:
                with self._database.read() as connection:
                    known = nodes.list(connection)
                gone = long_gone(self._silences.conditions(known))
                self._addresses = tuple(
                    node.address for node in known if node.state in WATCHED and node.name not in gone
                )
                self._read_at = now
            return self._addresses
