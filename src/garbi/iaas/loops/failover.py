"""Finds out whether silent nodes are dead, and has their machines created again elsewhere: only on proof, and not when too much
seems dead at once.

It takes no input: it reads the nodes again whenever it is woken, and once in a while. Each fence works in a thread of its own, so
that one that hangs holds up no other node.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from garbi.base.clock import Clock
from garbi.base.failpoints import reach
from garbi.iaas.fences.death import declare_dead
from garbi.iaas.fences.protocol import Attempt, Fences, Proof, explain
from garbi.iaas.leadership import Superseded
from garbi.iaas.loops.replanning import Replanning
from garbi.iaas.loops.silence import Silences
from garbi.iaas.model.event import Subject
from garbi.iaas.model.machine import Machine
from garbi.iaas.model.node import Node, NodeState
from garbi.iaas.monitor.failover import STOPPED, UNPROVEN, MassFailure, plain, too_many_dead
from garbi.iaas.store import events, nodes
from garbi.iaas.store.database import Database, Transaction

log = logging.getLogger(__name__)

PERIOD_S = 60.0
"""How often it looks at what has no node, though nobody woke it."""

LEAVING_S = 300.0
"""For so long a node is not fenced whose host said that it goes down: it is expected back."""

PAUSES_S = (30.0, 60.0, 120.0, 300.0)
"""Between two attempts to prove that a node is dead."""


@dataclass(frozen=True, slots=True)
class FailoverParts:
    """What it works with. `heard_since` tells whether a node has answered after a moment of the monotonic clock. `grace_s`: for
    so many seconds after the start nothing is fenced or moved, since nodes may be on their way back."""

    database: Database
    clock: Clock
    fences: Fences
    replanning: Replanning
    wake: Callable[[Machine], None]
    heard_since: Callable[[str, float], bool]
    grace_s: float
    silences: Silences


@dataclass(slots=True)
class _Trial:
    """The attempt to prove that one node is dead."""

    began: float
    cancelled: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread | None = None


@dataclass(slots=True)
class _Retry:
    """How often nothing was proven of a node that is silent still, and when it is tried again."""

    tries: int
    at: float


class Failover:
    """The thread that looks after dead nodes, and those that prove that they are."""

    def __init__(self, parts: FailoverParts, stirred: threading.Event) -> None:
        """It looks at nodes and machines when `stirred` is set."""
        self._parts = parts
        self._stirred = stirred
        self._lock = threading.Lock()
        self._trials: dict[str, _Trial] = {}
        self._retries: dict[str, _Retry] = {}
        self._rests_until = parts.clock.monotonic() + parts.grace_s
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="failover", daemon=True)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def stop(self) -> None:
        """Begin nothing more, and prove nothing more."""
        self._stopped.set()
        self._stirred.set()
        with self._lock:
            trials = list(self._trials.values())
        for trial in trials:
            trial.cancelled.set()

    def join(self, patience_s: float) -> None:
        """Wait for the threads, at most `patience_s` seconds altogether."""
        deadline = self._parts.clock.monotonic() + patience_s
        with self._lock:
            trials = [trial.thread for trial in self._trials.values() if trial.thread is not None]
        for thread in (self._thread, *trials):
            if thread.is_alive():
                thread.join(max(deadline - self._parts.clock.monotonic(), 0))

    # The look at all nodes

    def _run(self) -> None:
        while not self._stopped.is_set():
            self._stirred.clear()
            try:
                self._look()
            except Superseded:
                pass  # who leads now looks after them
            except Exception:  # the loop has to survive what it cannot foresee
                if not self._stopped.is_set():
                    log.exception("failover failed")
            self._stirred.wait(self._pause())

    def _pause(self) -> float:
        """Until the next attempt is due, or somebody has waited for room long enough."""
        now = self._parts.clock.monotonic()
        with self._lock:
            due = [retry.at - now for retry in self._retries.values()]
        if now < self._rests_until:
            due.append(self._rests_until - now)
        return min([PERIOD_S, *(max(each, 0.1) for each in due)])

    def _look(self) -> None:
        with self._parts.database.read() as connection:
            known = nodes.list(connection)
        rested = self._parts.clock.monotonic() >= self._rests_until
        conditions = self._parts.silences.conditions(known)
        mass = too_many_dead(conditions)
        silent = {node.name: node for node in known if node.state is NodeState.UNREACHABLE}
        brief = {each.name for each in conditions if each.for_s < LEAVING_S}
        leaving = {node.name for node in known if node.leaving_at is not None} & brief
        with self._lock:
            self._retries = {name: retry for name, retry in self._retries.items() if name in silent}
        for name, trial in self._under_way().items():
            if name not in silent or mass is not None or self._parts.heard_since(name, trial.began):
                trial.cancelled.set()
        for node in silent.values():
            if mass is not None:
                self._note(node, f"{STOPPED}{mass.words()}", mass.words())
            elif rested and node.name not in leaving and self._is_due(node.name):
                self._try(node)
        now = self._parts.clock.monotonic()
        lost = conditions if rested else []
        dead = {each.name: now - each.for_s for each in lost if each.state is NodeState.UNAVAILABLE}
        self._parts.replanning.look(dead, stopped=mass is not None or not rested)

    def _mass_failure(self, known: Sequence[Node]) -> MassFailure | None:
        return too_many_dead(self._parts.silences.conditions(known))

    def _under_way(self) -> dict[str, _Trial]:
        with self._lock:
            return dict(self._trials)

    def _is_due(self, name: str) -> bool:
        if self._parts.heard_since(name, self._parts.clock.monotonic() - self._parts.grace_s):
            return False  # it is on its way back
        with self._lock:
            retry = self._retries.get(name)
            due = retry is None or self._parts.clock.monotonic() >= retry.at
            return due and name not in self._trials

    # The attempt to prove that a node is dead

    def _try(self, node: Node) -> None:
        trial = _Trial(self._parts.clock.monotonic())
        trial.thread = threading.Thread(target=self._prove, args=(node, trial), name=f"fence-{node.name}", daemon=True)
        with self._lock:
            if self._stopped.is_set():
                return
            self._trials[node.name] = trial
        trial.thread.start()

    def _prove(self, node: Node, trial: _Trial) -> None:
        try:
            reach("failover.fence.begun")
            outcome = self._parts.fences.prove(node, trial.cancelled)
            reach("failover.fence.done")
            if isinstance(outcome, Proof):
                self._conclude(node, outcome, trial)
            elif not trial.cancelled.is_set():
                self._be_unsure(node, outcome)
        except Superseded:
            pass  # who leads now proves it once more
        except Exception:  # the thread has to survive what it cannot foresee
            if not self._stopped.is_set():
                log.exception("fencing failed", extra={"node": node.name})
                self._put_off(node.name)
        finally:
            with self._lock:
                if self._trials.get(node.name) is trial:
                    del self._trials[node.name]
            self._stirred.set()

    def _conclude(self, node: Node, proof: Proof, trial: _Trial) -> None:
        """Write what follows from the proof, unless the node has answered since: then it wins, whatever was proven."""
        with self._parts.database.write() as transaction:
            present = nodes.find(transaction.connection, node.name)
            if present is None or not self._still_holds(transaction, present, node, trial):
                return
            lost = declare_dead(transaction, present, proof, self._parts.clock.now())
        reach("failover.dead.recorded")
        log.warning("node is dead", extra={"node": node.name, "by": proof.by, "detail": proof.words})
        for machine in lost:
            self._parts.wake(machine)

    def _still_holds(self, transaction: Transaction, present: Node, node: Node, trial: _Trial) -> bool:
        if present.state is not NodeState.UNREACHABLE or present.lease != node.lease:
            return False
        if trial.cancelled.is_set() or self._parts.heard_since(node.name, trial.began):
            return False
        return self._mass_failure(nodes.list(transaction.connection)) is None

    def _be_unsure(self, node: Node, attempts: tuple[Attempt, ...]) -> None:
        """Say what was tried and what to do; try again later."""
        self._put_off(node.name)
        what = f"if its host is off, and only then: iaas node confirm-dead {node.name}"
        words = f"{explain(attempts)}; its machines stay unknown; {what}"
        self._note(node, f"{UNPROVEN}{words}", words)

    def _put_off(self, name: str) -> None:
        with self._lock:
            before = self._retries.get(name)
            tries = 0 if before is None else before.tries
            pause = PAUSES_S[min(tries, len(PAUSES_S) - 1)]
            self._retries[name] = _Retry(tries + 1, self._parts.clock.monotonic() + pause)

    def _note(self, node: Node, addition: str, words: str) -> None:
        """Write into the reason of a silent node what is done about it, with an event, when that is news."""
        now = self._parts.clock.now()
        with self._parts.database.write() as transaction:
            present = nodes.find(transaction.connection, node.name)
            if present is None or present.state is not NodeState.UNREACHABLE:
                return
            reason = plain(present.reason) + addition
            if reason != present.reason:
                nodes.note_reason(transaction, node.name, reason)
                kind, state = events.Kind.FENCE, present.state
                events.append(transaction, Subject.NODE, node.name, kind, now, state=state, reason=words)
        reach("failover.unproven.recorded")
