"""Asks hosts whose nodes were removed by force while they were silent, until they are back: then what was removed ends there too.

Orders go to the very agent that the node had, by its cluster id; another one at that address is left alone. What is removed is
told by id and epoch, and its disk is kept for a while, since nobody could look at it before.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, replace

from garbi.base.clock import Clock
from garbi.base.errors import GarbiError, NotFound, StaleOrder
from garbi.base.failpoints import reach
from garbi.hyper_api.client import HyperClient
from garbi.iaas.fences.lease import LeaseBook
from garbi.iaas.leadership import Superseded
from garbi.iaas.loops.looking import read
from garbi.iaas.loops.returning import judge_copy
from garbi.iaas.model.event import Subject
from garbi.iaas.model.node import Node, NodeState
from garbi.iaas.model.tombstone import Tombstone
from garbi.iaas.monitor.failover import KEPT_S
from garbi.iaas.monitor.verdict import WATCHED
from garbi.iaas.nodes import NodeClients, speaking_to
from garbi.iaas.store import events, nodes, tombstones
from garbi.iaas.store.database import Database

log = logging.getLogger(__name__)

ASK_EVERY_S = 300.0
SOON_S = 3.0
"""Until an agent that answered is asked whether what it was told is done."""

UNDER_WAY = (NodeState.ADDING, NodeState.REMOVING)
"""The states of a node of which its operation says whether its host is one again, or has to be asked. One that failed is asked
in any case: its host runs what was removed with it all the same."""

PROBE_S = 10.0
RENEWALS = 2
"""The second one has seen the first: from then on the agent takes orders."""


@dataclass(frozen=True, slots=True)
class TombstoneParts:
    """What it works with. `clients` finds the secret of an agent by its cluster id."""

    controller_id: str
    database: Database
    clients: NodeClients
    clock: Clock
    book: LeaseBook


class Tombstones:
    """The thread that asks them, one after the other."""

    def __init__(self, parts: TombstoneParts) -> None:
        self._parts = parts
        self._due: dict[str, float] = {}
        self._told: dict[str, set[str]] = {}
        self._wanted = threading.Event()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tombstones", daemon=True)

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def wake(self) -> None:
        """Have those asked that are new."""
        self._wanted.set()

    def stop(self) -> None:
        """Ask no more."""
        self._stopped.set()
        self._wanted.set()
        self._parts.clients.close()

    def join(self, patience_s: float) -> None:
        """Wait for the thread, at most `patience_s` seconds."""
        if self._thread.is_alive():
            self._thread.join(patience_s)

    # Helpers in the order in which they are called

    def _run(self) -> None:
        while not self._stopped.is_set():
            self._wanted.clear()
            try:
                self._look()
            except Superseded:
                pass  # who leads now asks them
            except Exception:  # the loop has to survive what it cannot foresee
                if not self._stopped.is_set():
                    log.exception("removed nodes were not asked")
            left = [at - self._parts.clock.monotonic() for at in self._due.values()]
            self._wanted.wait(max(min([ASK_EVERY_S, *left]), 0.05))

    def _look(self) -> None:
        with self._parts.database.read() as connection:
            present = tombstones.list(connection)
            homes = {node.cluster_id: node.state for node in nodes.list(connection)}
        self._due = {each.cluster_id: self._due.get(each.cluster_id, float("-inf")) for each in present}
        for each in present:
            if self._stopped.is_set():
                return
            home = homes.get(each.cluster_id)
            if home in UNDER_WAY:
                self._due[each.cluster_id] = self._parts.clock.monotonic() + SOON_S
            elif home in WATCHED:
                self._forget(each, "its host is a node again")
            elif self._parts.clock.now() >= each.until:
                self._forget(each, f"its host was silent for {each.until - each.removed_at}, and is asked no more")
            elif self._parts.clock.monotonic() >= self._due[each.cluster_id]:
                self._ask(each)

    def _ask(self, tombstone: Tombstone) -> None:
        """Speak with its agent, if it is there; write down what came of it."""
        pause = ASK_EVERY_S
        try:
            with speaking_to(tombstone.name):
                pause = self._speak(tombstone)
        except Superseded:
            raise
        except GarbiError as error:
            self._note(tombstone, error.detail)
        finally:
            self._parts.book.forget(tombstone.cluster_id)
            self._due[tombstone.cluster_id] = self._parts.clock.monotonic() + pause

    def _speak(self, tombstone: Tombstone) -> float:
        """Tell its agent what to remove; for how many seconds it is let alone then."""
        node = tombstone.as_node()
        client = self._parts.clients.prober_of(node, PROBE_S)
        found = client.host().get("cluster_id")
        if found != tombstone.cluster_id:
            self._note(tombstone, f"another agent answers there: its cluster id is {str(found)[:80]}")
            return ASK_EVERY_S
        left = self._left(tombstone, client)
        if not left:
            gone = ", ".join(sorted(self._told.pop(tombstone.cluster_id, ()))) or "nothing"
            self._forget(tombstone, f"its host answered again; removed there: {gone}; its hyper is left as it is")
            return ASK_EVERY_S
        node = self._obeying(tombstone, node, client)
        for machine_id, (epoch, keep_s) in left.items():
            assignment = self._parts.clients.assignment(node, epoch)
            try:
                client.machines.remove(machine_id, wait_s=0, assignment=assignment, keep_s=keep_s)
            except NotFound:
                continue
            self._told.setdefault(tombstone.cluster_id, set()).add(machine_id)
        reach("tombstone.told")
        self._note(tombstone, f"it is being told to remove {', '.join(left)}")
        return SOON_S

    def _left(self, tombstone: Tombstone, client: HyperClient) -> dict[str, tuple[int, int]]:
        """What should not be there: its epoch, and for how long its disk is kept. What nothing is known of is left alone."""
        sights = {str(each.get("id")): read(each, self._parts.controller_id) for each in client.machines.list()}
        left = {}
        with self._parts.database.read() as connection:
            for machine_id, sight in sorted(sights.items()):
                stray = judge_copy(connection, "", machine_id, sight)
                listed = sight.epoch is not None and sight.epoch <= tombstone.machines.get(machine_id, -1)
                if sight.epoch is not None and (listed or stray is not None):
                    left[machine_id] = sight.epoch, KEPT_S
        return left

    def _obeying(self, tombstone: Tombstone, node: Node, client: HyperClient) -> Node:
        """The node with a lease under which its agent takes orders; raises StaleOrder when it obeys another controller."""
        ours = [each for each in client.leases.list() if each.get("controller") == self._parts.controller_id]
        node = replace(node, lease=max([node.lease, *(int(each["number"]) for each in ours)]))
        for _ in range(RENEWALS):
            try:
                refused = self._parts.book.check(node, client, (node.address,)).refused
            except StaleOrder as error:
                if error.extra.get("stale") != "lease":
                    raise
                refused = True
            if refused:  # what ran under it was stopped when it ended: a later one begins
                node = replace(node, lease=node.lease + 1)
                self._parts.book.check(node, client, (node.address,))
        with self._parts.database.write() as transaction:
            tombstones.note(transaction, replace(tombstone, lease=node.lease))
        return node

    def _note(self, tombstone: Tombstone, said: str) -> None:
        if said == tombstone.said:
            return
        with self._parts.database.write() as transaction:
            present = tombstones.find(transaction.connection, tombstone.cluster_id)
            if present is not None:
                tombstones.note(transaction, replace(present, said=said))

    def _forget(self, tombstone: Tombstone, words: str) -> None:
        now, state = self._parts.clock.now(), NodeState.REMOVING
        with self._parts.database.write() as transaction:
            if tombstones.delete(transaction, tombstone.cluster_id):
                reason = f"removed by force at {tombstone.removed_at:%Y-%m-%d %H:%M} UTC while it was silent: {words}"
                events.append(
                    transaction, Subject.NODE, tombstone.name, events.Kind.RETURNED, now, state=state, reason=reason
                )
        reach("tombstone.forgotten")
        self._parts.clients.forget(tombstone.cluster_id)
