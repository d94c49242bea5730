"""Watches one node: renews its lease at each check, hears its events, and looks at all of it when there is something to see.

A check is short and waits for nothing else, so that a node whose daemons hang is not taken for silent. What a look finds is
never written into a machine: it wakes the machine's worker, which looks for itself. Only the node's own state and facts are
written here.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime

from garbi.base.calls import Document
from garbi.base.clock import Clock
from garbi.base.errors import GarbiError, StaleOrder, StorageFailed, Unauthenticated
from garbi.base.failpoints import reach
from garbi.hyper_api.vocabulary import State
from garbi.iaas.converge import Absent, Sight, is_off
from garbi.iaas.fences.lease import Answer, LeaseBook, Unrecorded
from garbi.iaas.leadership import Superseded
from garbi.iaas.loops.converger import Converger
from garbi.iaas.loops.estrangement import Estrangement, Stranger
from garbi.iaas.loops.looking import read, read_state
from garbi.iaas.loops.news import Word
from garbi.iaas.loops.records import Records
from garbi.iaas.loops.returning import Returning
from garbi.iaas.loops.standing import Standing
from garbi.iaas.model.event import Subject
from garbi.iaas.model.node import Load, Node, NodeState
from garbi.iaas.monitor.facts import Facts, read_facts
from garbi.iaas.monitor.lateness import answer_limit_s, patience_s
from garbi.iaas.monitor.verdict import RETURNING, TRUSTED, WATCHED, Reach, is_watched, judge, state_after
from garbi.iaas.nodes import NodeClients, speaking_to
from garbi.iaas.store import events, nodes
from garbi.iaas.store.database import Database
from garbi.iaas.workflows.facts import note_facts

log = logging.getLogger(__name__)

LOOK_EVERY_S = 30.0
"""How often a node is looked at of which nothing is heard but that it is there."""

CHECK_S, SHORTEST_CHECK_S = 3.0, 1.0
"""How long an answer to a check may take; the last one before a node is unreachable may be shorter."""

FADING = 0.9
"""How much of its delay a node is still granted with the next answer that comes sooner."""

LATE_S = 1.0
"""Who gets the processor so much later than it wanted is short of it."""

MOMENT_S = 0.05
"""So much later than its time of grace ends, it is over for certain."""

PROBE_S = 10.0
"""How long an answer to a look may take."""

SHORTEST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 5.0
"""Between two attempts to hear a node's events."""


TELLING = ("created", "state")
"""The kinds of a node's events that say which state a machine has come to."""


@dataclass(frozen=True, slots=True)
class Watching:
    """What the watchers of all nodes have in common; periods in seconds. `roster` gives the addresses of all nodes that are
    watched, `stir` has the failover look at nodes whose state has changed, `leads` tells whether leases may be renewed."""

    controller_id: str
    database: Database
    clients: NodeClients
    converger: Converger
    records: Records
    clock: Clock
    check_period_s: float
    unreachable_after_s: float
    book: LeaseBook
    roster: Callable[[], tuple[str, ...]]
    stir: Callable[[], None]
    leads: Callable[[], bool]


@dataclass(slots=True)
class Report:
    """The last word of a node: when it came, and the machines of this controller there, by their ids."""

    seen_at: datetime | None = None
    machines: dict[str, Sight] = field(default_factory=dict)


class NodeWatch:
    """The threads that watch one node, until `stop`."""

    def __init__(self, name: str, parts: Watching) -> None:
        self.name = name
        self.report = Report()
        self.answered_at: float | None = None
        self._parts = parts
        self._began = self._checked_at = parts.clock.monotonic()
        self._standing = Standing(parts.database, parts.clock)
        self._missed, self._late_s = 0, 0.0
        self._told: tuple[str, int] | None = None
        self._noticed: tuple[str, int] | None = None
        self._obeys = False
        self._words = Estrangement(name, parts.database, parts.clock)
        self._returning = Returning(name, parts.database, parts.clients, parts.clock)
        self._due = threading.Event()
        self._wanted = threading.Event()
        self._stopped = threading.Event()
        self._threads = [
            threading.Thread(target=work, name=f"{word}-{name}", daemon=True)
            for work, word in (
                (self._check_forever, "watch"),
                (self._look_forever, "look"),
                (self._listen_forever, "listen"),
            )
        ]

    def start(self) -> None:
        """Begin to watch."""
        for thread in self._threads:
            thread.start()

    def look_soon(self) -> None:
        """Have the node checked and looked at before the period is over."""
        self._wanted.set()
        self._due.set()

    def stop(self) -> None:
        """Watch no more."""
        self._stopped.set()
        self.look_soon()

    def join(self, patience_s: float) -> None:
        """Wait for the threads, at most `patience_s` seconds altogether."""
        deadline = self._parts.clock.monotonic() + patience_s
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(max(deadline - self._parts.clock.monotonic(), 0))

    # The check: whether it is there

    def _check_forever(self) -> None:
        while not self._stopped.is_set():
            self._due.clear()
            began = self._parts.clock.monotonic()
            try:
                node = self._find()
                if node is None or not is_watched(node):
                    self.stop()
                    return
                self._be_fair(began)
                self._check(node)
                self._checked_at = self._parts.clock.monotonic()
            except (Superseded, Unrecorded) as error:
                log.info("node was not checked", extra={"node": self.name, "detail": str(error)})
            except Exception:  # the loop has to survive what it cannot foresee
                if not self._stopped.is_set():
                    log.exception("check of node failed", extra={"node": self.name})
            left = began + self._parts.check_period_s - self._parts.clock.monotonic()
            self._rest(max(min(left, self._grace_left() - SHORTEST_CHECK_S), SHORTEST_PAUSE_S))

    def _rest(self, pause_s: float) -> None:
        """Wait until the next check is due. Who gets the processor late has not asked meanwhile: that is nobody's silence."""
        began = self._parts.clock.monotonic()
        self._due.wait(pause_s)
        late_s = self._parts.clock.monotonic() - began - pause_s
        if late_s > LATE_S:
            self._began = max(self._began, self._last() + late_s)
            self._parts.book.be_late(late_s)

    def _be_fair(self, now: float) -> None:
        """A node that nobody asked, because this controller was frozen or its database away, has not been silent."""
        if now - self._checked_at > 2 * (self._parts.check_period_s + CHECK_S):
            self._began = now

    def _last(self) -> float:
        """The moment from which silence counts."""
        return self._began if self.answered_at is None else max(self.answered_at, self._began)

    def _grace_left(self) -> float:
        """Seconds until a node that goes on saying nothing is unreachable; no end of them when it is already."""
        left = self._last() + self._silence_s() - self._parts.clock.monotonic()
        return left + MOMENT_S if left > 0 else math.inf

    def _silence_s(self) -> float:
        """After how many seconds without an answer it is unreachable."""
        return patience_s(self._parts.unreachable_after_s, self._late_s)

    def _limit_s(self) -> float:
        """How long the next answer may take."""
        limit_s = answer_limit_s(CHECK_S, self._missed, self._late_s, self._parts.book.ttl_s)
        return min(limit_s, max(self._grace_left(), SHORTEST_CHECK_S))

    def _check(self, node: Node) -> None:
        parts = self._parts
        if not parts.leads():
            return
        addresses = parts.roster()
        try:
            with speaking_to(self.name):
                if node.state is NodeState.FAILED:
                    node = self._words.meet(node, parts.clients.prober_of(node, PROBE_S))
                client = parts.clients.prober_of(node, self._limit_s())
                answer = parts.book.check(node, client, addresses)
        except Stranger as stranger:
            self._estrange(node, str(stranger))
        except StorageFailed as error:  # it is there, and has said so
            self.answered_at = self._parts.clock.monotonic()
            self._standing.note(node, node.load, error.detail, going_down=node.leaving_at is not None)
        except StaleOrder as error:
            self._be_overtaken(node, error)
        except GarbiError as error:
            self._miss(node, error)
        else:
            self._hear(node, answer)

    def _hear(self, node: Node, answer: Answer) -> None:
        if node.cluster_id and answer.cluster_id != node.cluster_id:
            self._estrange(node, answer.cluster_id)
            return
        now, moment = self._parts.clock.now(), self._parts.clock.monotonic()
        self.answered_at = moment
        self._missed, self._late_s = 0, max(answer.delay_s, self._late_s * FADING)
        self.report.seen_at = now
        self._obeys = answer.active
        if answer.refused:
            self._begin_lease(node, "its lease has ended")
        self._told = answer.boot_id, answer.last_event
        if self._told != self._noticed or node.state in RETURNING:
            self._wanted.set()
        self._standing.note(node, Load(answer.load1, answer.mem_used), answer.unwritable, answer.going_down)

    def _be_overtaken(self, node: Node, error: StaleOrder) -> None:
        """It is there, and obeys another controller, or knows of a later lease than the database does."""
        self.answered_at = self._parts.clock.monotonic()
        log.warning("lease was not renewed", extra={"node": self.name, "detail": error.detail})
        if error.extra.get("stale") == "lease":
            self._begin_lease(node, "it knows of a later lease")
        else:
            self._parts.clients.overtaken()

    def _begin_lease(self, node: Node, words: str) -> None:
        """What runs under a lease has stopped when it ended: with the next one, it waits to be told again."""
        now = self._parts.clock.now()
        with self._parts.database.write() as transaction:
            if nodes.raise_lease(transaction, self.name, node.lease):
                reason = f"{words}: lease {node.lease + 1} begins"
                state, kind = node.state, events.Kind.LEASE
                events.append(transaction, Subject.NODE, self.name, kind, now, state=state, reason=reason)
        reach("node.lease.recorded")
        self._due.set()

    def _estrange(self, node: Node, cluster_id: str) -> None:
        """Another agent answers at the address: its word is none of ours, and no silence of ours either."""
        self._began = self._parts.clock.monotonic()
        self._words.tell_of_stranger(node, cluster_id)

    def _miss(self, node: Node, error: GarbiError) -> None:
        if isinstance(error, Unauthenticated):
            self._parts.clients.forget(self.name)  # the next check shows what it was given meanwhile
        self._missed += 1
        reach_now = judge(self._last(), self._parts.clock.monotonic(), self._silence_s())
        if reach_now is not Reach.UNREACHABLE or self._stopped.is_set():
            return  # it may answer yet; and one that was silent before stays so until it does
        if self._words.tell_of_silence(node, error, self.report.seen_at or node.seen_at):
            self._parts.stir()

    # The look at everything

    def _look_forever(self) -> None:
        while not self._stopped.is_set():
            self._wanted.clear()
            try:
                node = self._find()
                if node is not None and is_watched(node) and self._is_there():
                    self._look(node)
            except Superseded:
                pass  # who leads now looks at it
            except GarbiError as error:  # the next check has it looked at again
                log.info("node was not looked at", extra={"node": self.name, "detail": error.detail})
            except Exception:  # the loop has to survive what it cannot foresee
                if not self._stopped.is_set():
                    log.exception("look at node failed", extra={"node": self.name})
            self._wanted.wait(LOOK_EVERY_S)

    def _is_there(self) -> bool:
        """Whether it has answered since it was watched, and not been silent for too long since."""
        now = self._parts.clock.monotonic()
        return self.answered_at is not None and judge(self.answered_at, now, self._silence_s()) is (Reach.REACHABLE)

    def _look(self, node: Node) -> None:
        told = self._told
        with speaking_to(self.name):
            client = self._parts.clients.prober_of(node, PROBE_S)
            host, drivers = client.host(), client.drivers()
            if node.cluster_id and host.get("cluster_id") != node.cluster_id:
                return  # the next check says so
            documents = client.machines.list()
            facts = read_facts(host, drivers, self._foreign_mem(documents))
        seen = {str(each.get("id")): read(each, self._parts.controller_id) for each in documents}
        self.report.machines = {key: sight for key, sight in seen.items() if sight.epoch is not None}
        self._note(node, facts)
        self._noticed = told
        left = self._returning.retire(node, self.report.machines)
        back = state_after(node.state, node.draining, Reach.REACHABLE)
        late = left if node.state is NodeState.UNAVAILABLE else node.state is NodeState.FAILED and not self._obeys
        if back is not node.state and not late:
            self._return(node, back)
        if back in TRUSTED:
            self._compare(seen, every=node.state in RETURNING)

    def _foreign_mem(self, documents: list[Document]) -> int:
        mine = self._parts.controller_id
        return sum(int(each.get("mem") or 0) for each in documents if read(each, mine).epoch is None)

    def _note(self, node: Node, facts: Facts) -> None:
        if facts.same_as(node):
            return
        with self._parts.database.write() as transaction:
            note_facts(transaction, self.name, facts, self._parts.clock.now())
        self._standing.written()

    def _return(self, node: Node, state: NodeState) -> None:
        """It takes machines again, and what was left on it has been dealt with."""
        now = self._parts.clock.now()
        with self._parts.database.write() as transaction:
            present = nodes.find(transaction.connection, self.name)
            if present is None or present.state is not node.state or present.lease != node.lease:
                return  # it was said to be dead meanwhile: the next look begins anew
            nodes.set_state(transaction, self.name, state, "", now, actor=events.node_actor(self.name))
            if node.state is NodeState.UNAVAILABLE:
                self._returning.report(transaction, now)
        reach("node.returned.recorded")
        log.info("node answers again", extra={"node": self.name})
        self._parts.stir()

    def _compare(self, seen: dict[str, Sight], *, every: bool) -> None:
        for machine in self._parts.records.of_node(self.name):
            if every or is_off(machine, seen.get(machine.id, Absent())):
                self._parts.converger.wake(machine)

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
            except (GarbiError, Superseded):
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
                        self._heed(event)
                        after = int(event["seq"])
            finally:
                self.look_soon()  # the node may have gone
        return after

    def _heed(self, event: Document) -> None:
        machine_id, state = str(event["machine_id"]), read_state(event.get("state"))
        word = Word(state, str(event.get("reason") or ""))
        failed = state is State.FAILED
        if failed:  # its host may have started it again before anybody looks
            self._parts.records.failed(self.name, machine_id, word.reason)
        tells_all = event.get("kind") in TELLING and not failed
        self._parts.converger.heed(self.name, machine_id, word if tells_all else None)

    def _find(self) -> Node | None:
        with self._parts.database.read() as connection:
            return nodes.find(connection, self.name)
