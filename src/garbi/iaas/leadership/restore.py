"""What a controller does before its first term on a database that was restored from a backup, because its operator says so.

Nodes remember later terms, leases, wishes and assignments than the backup has. They are asked for them, so that they obey this
controller again and each machine is looked for where it is. Never by itself: of two copies of one database each would overtake
the other, again and again. What the backup does not know at all stays as it is, and the audit names it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy.exc import IntegrityError

from garbi.base.calls import Document
from garbi.base.clock import Clock
from garbi.base.errors import FinalError, GarbiError
from garbi.hyper_api.vocabulary import Wish
from garbi.iaas.model.machine import Machine, Moving
from garbi.iaas.model.marks import epoch_of
from garbi.iaas.model.node import Node, NodeState
from garbi.iaas.monitor.failover import is_stranded
from garbi.iaas.nodes import NodeClients
from garbi.iaas.store import events, machines, meta, nodes, restoring
from garbi.iaas.store.database import Database, Transaction

log = logging.getLogger(__name__)

ANSWER_S = 10.0
"""How long an answer of a node may take."""


@dataclass(frozen=True, slots=True)
class Memory:
    """What one node remembers: the lease of this cloud, if it has one, and the assignments of its machines, by their ids."""

    lease: Document | None
    epochs: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Restore:
    """Brings a database up to what nodes remember. For `pause_s` seconds it looks whether another controller works."""

    database: Database
    clients: NodeClients
    controller_id: str
    clock: Clock
    pause_s: float

    def catch_up(self) -> None:
        """Do it, all or nothing. Raises FinalError when no node answers, or when another controller renews its leases."""
        with self.database.read() as connection:
            known = nodes.list(connection)
        memories = self._ask(known)
        if known and not memories:
            raise FinalError("no node answers, so that nothing can be learnt from them; nothing was changed")
        self._refuse_rivals(known)
        with self.database.write() as transaction:
            self._learn(transaction, known, memories)
        silent = ", ".join(node.name for node in known if node.name not in memories)
        log.warning("the database is a backup", extra={"asked": ", ".join(memories), "silent": silent or "none"})

    def _ask(self, known: Sequence[Node]) -> dict[str, Memory]:
        """What those nodes remember that answer."""
        found = {}
        for node in known:
            try:
                found[node.name] = self._memory_of(node)
            except GarbiError as error:
                log.warning("node was not asked", extra={"node": node.name, "detail": error.detail})
        return found

    def _memory_of(self, node: Node) -> Memory:
        client = self.clients.prober_of(node, ANSWER_S)
        if client.host().get("cluster_id") != node.cluster_id:
            raise FinalError("another agent answers there")
        ours = [each for each in client.leases.list() if each["controller"] == self.controller_id]
        marked = {str(each["id"]): epoch_of(each["labels"], self.controller_id) for each in client.machines.list()}
        epochs = {machine_id: epoch for machine_id, epoch in marked.items() if epoch is not None}
        return Memory(ours[0] if ours else None, epochs)

    def _refuse_rivals(self, known: Sequence[Node]) -> None:
        """A lease that is renewed while this controller does nothing is renewed by another."""
        threading.Event().wait(self.pause_s)
        for name, memory in self._ask(known).items():
            age_s = None if memory.lease is None else memory.lease["age_s"]
            if age_s is not None and age_s < self.pause_s:
                words = f"another controller of this cloud works: it renewed the lease of node {name} {age_s:.0f} s ago"
                raise FinalError(f"{words}; stop it first. Nothing was changed")

    def _learn(self, transaction: Transaction, known: Sequence[Node], memories: Mapping[str, Memory]) -> None:
        for name, memory in memories.items():
            if memory.lease is not None:
                restoring.raise_term(transaction, int(memory.lease["term"]))
                restoring.raise_lease(transaction, name, int(memory.lease["number"]))
        restoring.leap_generations(transaction)
        dead = {node.name for node in known if node.state is NodeState.UNAVAILABLE}
        silent = {node.name for node in known} - memories.keys() - dead
        meta.put(transaction, meta.DOUBTED, " ".join(sorted(silent)))
        for node in known:
            for machine in machines.of_node(transaction.connection, node.name):
                self._find(transaction, machine, memories, certain=not silent)

    def _find(
        self, transaction: Transaction, machine: Machine, memories: Mapping[str, Memory], *, certain: bool
    ) -> None:
        """Let a machine be where its newest assignment is; one of which that cannot be written is not made again unasked.

        `certain`: every node has answered or is proven dead, so that what none of them has is nowhere.
        """
        own = str(machine.node)
        found = [(memory.epochs[machine.id], name) for name, memory in memories.items() if machine.id in memory.epochs]
        newest = max(found, key=lambda each: (each[0], each[1] == own), default=None)
        if newest is None:
            told = machine.told_generation > 0 or machine.moving is not Moving.NO
            missing = own in memories and told
            if machine.moving is Moving.GONE or (own not in memories and is_stranded(machine)):
                missing = not certain  # its next node may have it already, by a word that came after the backup
        else:
            there = newest[0] < machine.epoch or newest == (machine.epoch, own)
            missing = not there and not self._adopt(transaction, machine, newest[1], newest[0])
        if missing and machine.wish in (Wish.RUNNING, Wish.PAUSED):
            now, operation = self.clock.now(), machine.operation
            machines.save_wish(transaction, machine, Wish.STOPPED, now, operation, actor=events.CONTROLLER)

    def _adopt(self, transaction: Transaction, machine: Machine, name: str, epoch: int) -> bool:
        """Whether there was room for it where it is; else its row stays, and the audit says so."""
        try:
            with transaction.connection.begin_nested():
                return restoring.adopt(transaction, machine, name, epoch, self.clock.now())
        except IntegrityError:
            return False
