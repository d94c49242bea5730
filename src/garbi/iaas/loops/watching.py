"""Watches one node: its events wake the crew of its machines, and a look at all of it, once in a period, finds the rest.

What a look finds is never written into a machine: it wakes the machine's worker, which looks for itself. Only the node's own
state and facts are written here.
"""

from __future__ import annotations

import logging
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime

from garbi.base.calls import Document
from garbi.base.clock import Clock
from garbi.base.errors import GarbiError
from garbi.base.failpoints import reach
from garbi.iaas.converge import Absent, Await, Mirror, Seen, Sight, next_step
from garbi.iaas.loops.converger import Converger
from garbi.iaas.loops.looking import read
from garbi.iaas.loops.records import Records
from garbi.iaas.model.machine import Machine
from garbi.iaas.model.node import Node, NodeState
from garbi.iaas.monitor.facts import Facts, read_facts
from garbi.iaas.monitor.verdict import TRUSTED, WATCHED, Reach, judge, state_after
from garbi.iaas.nodes import NodeClients, speaking_to
from garbi.iaas.store import machines, nodes
from garbi.iaas.store.database import Database
from garbi.iaas.workflows.facts import note_facts

log = logging.getLogger(__name__)

SEEN_EVERY_S = 10.0
"""How often it is written down that a node answers of which nothing else has changed."""

PROBE_S = 10.0
"""How long an answer to a look may take."""

SHORTEST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 5.0
"""Between two attempts to hear a node's events."""


@dataclass(frozen=True, slots=True)
class Watching:
    """What the watchers of all nodes have in common; periods in seconds."""

    controller_id: str
    database: Database
    clients: NodeClients
    converger: Converger
    records: Records
    clock: Clock
    check_period_s: float
    unreachable_after_s: float


@dataclass(slots=True)
class Report:
    """The last word of a node: when it came, and the machines of this controller there, by their ids."""

    seen_at: datetime | None = None
    machines: dict[str, Sight] = field(default_factory=dict)


class NodeWatch:
    """The two threads that watch one node, until `stop`."""

    def __init__(self, name: str, parts: Watching) -> None:
        self.name = name
        self.report = Report()
        self._parts = parts
        self._answered_at = parts.clock.monotonic()
        self._written_at = float("-inf")
        self._wanted = threading.Event()
        self._stopped = threading.Event()
        self._threads = [
            threading.Thread(target=work, name=f"{word}-{name}", daemon=True)
            for work, word in ((self._check_forever, "watch"), (self._listen_forever, "listen"))
        ]

    def start(self) -> None:
        """Begin to watch."""
        for thread in self._threads:
            thread.start()

    def look_soon(self) -> None:
        """Have the node looked at before the period is over."""
        self._wanted.set()

    def stop(self) -> None:
        """Watch no more."""
        self._stopped.set()
        self._wanted.set()

    def join(self, patience_s: float) -> None:
        """Wait for the threads, at most `patience_s` seconds altogether."""
        deadline = self._parts.clock.monotonic() + patience_s
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(max(deadline - self._parts.clock.monotonic(), 0))

    # The look at everything

    def _check_forever(self) -> None:
        while not self._stopped.is_set():
            self._wanted.clear()
            try:
                node = self._find()
                if node is None or node.state not in WATCHED:
                    self.stop()
                    return
                self._check(node)
            except Exception:  # the loop has to survive what it cannot foresee
                if not self._stopped.is_set():
                    log.exception("look at node failed", extra={"node": self.name})
            self._wanted.wait(self._parts.check_period_s)

    def _check(self, node: Node) -> None:
        try:
            with speaking_to(self.name):
                client = self._parts.clients.prober_of(node, PROBE_S)
                host, drivers = client.host(), client.drivers()
                if node.cluster_id and host.get("cluster_id") != node.cluster_id:
                    self._estrange(node, str(host.get("cluster_id")))
                    return
                documents = client.machines.list()
                facts = read_facts(host, drivers, self._foreign_mem(documents))
        except GarbiError as error:
            self._miss(node, error)
            return
        self._hear(node, facts, documents)

    def _foreign_mem(self, documents: list[Document]) -> int:
        mine = self._parts.controller_id
        return sum(int(each.get("mem") or 0) for each in documents if read(each, mine).epoch is None)

    def _hear(self, node: Node, facts: Facts, documents: list[Document]) -> None:
        now = self._parts.clock.now()
        self._answered_at = self._parts.clock.monotonic()
        seen = {str(each.get("id")): read(each, self._parts.controller_id) for each in documents}
        self.report = Report(now, {key: sight for key, sight in seen.items() if sight.epoch is not None})
        self._note(node, facts, now)
        back = state_after(node.state, node.draining, Reach.REACHABLE)
        if back is not node.state:
            self._return(back)
        if back in TRUSTED:
            self._compare(seen, every=back is not node.state)

    def _note(self, node: Node, facts: Facts, now: datetime) -> None:
        """Write what has changed, and that the node answered when that is no longer fresh."""
        moment = self._parts.clock.monotonic()
        same = facts.same_as(node)
        if same and moment - self._written_at < SEEN_EVERY_S:
            return
        with self._parts.database.write() as transaction:
            if same:
                nodes.note_seen(transaction, self.name, facts.load, now)
            else:
                note_facts(transaction, self.name, facts, now)
        self._written_at = moment

    def _return(self, state: NodeState) -> None:
        with self._parts.database.write() as transaction:
            nodes.set_state(transaction, self.name, state, "", self._parts.clock.now(), actor=f"node:{self.name}")
        reach("node.returned.recorded")
        log.info("node answers again", extra={"node": self.name})

    def _compare(self, seen: dict[str, Sight], *, every: bool) -> None:
        for machine in self._parts.records.of_node(self.name):
            if every or _is_off(machine, seen.get(machine.id, Absent())):
                self._parts.converger.wake(machine)

    def _estrange(self, node: Node, cluster_id: str) -> None:
        """Another agent answers at the address: none of what is there is ours, and nothing of it is touched."""
        reason = f"another agent answers at {node.address}: its cluster id is {cluster_id[:80]}, not {node.cluster_id}"
        now = self._parts.clock.now()
        with self._parts.database.write() as transaction:
            if nodes.set_state(transaction, self.name, NodeState.FAILED, reason, now):
                machines.mark_node_unknown(transaction, self.name, f"node {self.name}: {reason}", now)
        log.warning("another agent answers", extra={"node": self.name})
        self.stop()

    def _miss(self, node: Node, error: GarbiError) -> None:
        reach_now = judge(self._answered_at, self._parts.clock.monotonic(), self._parts.unreachable_after_s)
        state = state_after(node.state, node.draining, reach_now)
        if state is node.state or self._stopped.is_set():
            return
        now = self._parts.clock.now()
        heard = self.report.seen_at or node.seen_at
        since = f"since {heard:%Y-%m-%d %H:%M:%S} UTC" if heard is not None else "yet"
        reason = f"no answer {since}: {error.detail.removeprefix(f'node {self.name}: ')}"
        with self._parts.database.write() as transaction:
            if nodes.set_state(transaction, self.name, state, reason, now):
                machines.mark_node_unknown(transaction, self.name, f"node {self.name} is unreachable: {reason}", now)
        reach("node.unreachable.recorded")
        log.warning("node is unreachable", extra={"node": self.name, "detail": error.detail})

    # The stream of events

    def _listen_forever(self) -> None:
        after: int | None = None
        pause = SHORTEST_PAUSE_S
        while not self._stopped.is_set():
            try:
                node = self._find()
                if node is not None and node.state in WATCHED:
                    after = self._listen(node, after)
                    pause = SHORTEST_PAUSE_S
            except GarbiError:
                pass
            except Exception:  # the loop has to survive what it cannot foresee
                if not self._stopped.is_set():
                    log.exception("listening to node failed", extra={"node": self.name})
            self._stopped.wait(pause)
            pause = min(pause * 2, LONGEST_PAUSE_S)

    def _listen(self, node: Node, after: int | None) -> int | None:
        """Follow the stream of events until it ends; return the number to go on after."""
        with self._parts.clients.listening(node) as client, speaking_to(self.name):
            stream = client.events(after=after)
            self.look_soon()  # for what happened before the stream began
            try:
                with suppress(GarbiError):  # a stream that breaks off is taken up again
                    for event in stream:
                        if self._stopped.is_set():
                            break
                        after = int(event["seq"])
                        self._parts.converger.wake_id(self.name, str(event["machine_id"]))
            finally:
                self.look_soon()  # the node may have gone
        return after

    def _find(self) -> Node | None:
        with self._parts.database.read() as connection:
            return nodes.find(connection, self.name)


def _is_off(machine: Machine, seen: Seen) -> bool:
    """Whether a machine is not as its node says, so that its worker should look."""
    decision = next_step(machine, seen, image_there=False)
    if isinstance(decision, Mirror):
        found = (decision.state, decision.reason, decision.address)
        return found != (machine.state, machine.reason, machine.address) or decision.settled is not machine.settled
    return not isinstance(decision, Await)
