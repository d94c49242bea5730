"""What is written of a node that does not answer as it should, in the words of now; and how its own agent is told from others.

A node that failed because of what answered, or did not, is asked again at each check: nobody has to lend a hand once its own
agent is there.
"""

from __future__ import annotations

import logging
from datetime import datetime

from garbi.base.clock import Clock
from garbi.base.errors import GarbiError
from garbi.base.failpoints import reach
from garbi.hyper_api.client import HyperClient
from garbi.iaas.model.event import Subject
from garbi.iaas.model.node import Failure, Node, NodeState
from garbi.iaas.monitor.facts import read_facts
from garbi.iaas.monitor.failover import plain
from garbi.iaas.monitor.verdict import Reach, complaint, state_after
from garbi.iaas.store import events, machines, nodes
from garbi.iaas.store.database import Database
from garbi.iaas.workflows.facts import check_agent, note_facts

log = logging.getLogger(__name__)


class Stranger(Exception):
    """Another agent answers at the address of a node: none of what is there is ours, and nothing of it is touched."""


class Estrangement:
    """The words about one node, as far as they are not about what it has."""

    def __init__(self, name: str, database: Database, clock: Clock) -> None:
        self._name = name
        self._database = database
        self._clock = clock
        self._code = ""

    def meet(self, node: Node, client: HyperClient) -> Node:
        """The failed node as it is known once its own agent answers; nothing is changed there before that is certain.

        Raises Stranger when another's does, Conflict when it cannot be that of a node, and what the requests meet.
        """
        host = client.host()
        if node.cluster_id:
            if host.get("cluster_id") != node.cluster_id:
                raise Stranger(str(host.get("cluster_id")))
            return node
        facts = read_facts(host, client.drivers())
        now = self._clock.now()
        with self._database.write() as transaction:
            check_agent(transaction.connection, node, facts)
            note_facts(transaction, self._name, facts, now)
            present = nodes.find(transaction.connection, self._name)
        return node if present is None else present

    def tell_of_stranger(self, node: Node, cluster_id: str) -> None:
        """Another agent answers there."""
        reason = f"another agent answers at {node.address}: its cluster id is {cluster_id[:80]}, not {node.cluster_id}"
        if node.state is NodeState.FAILED:
            self._tell(node, reason, "stranger")
            return
        now, failure = self._clock.now(), Failure.AGENT
        with self._database.write() as transaction:
            if nodes.set_state(transaction, self._name, NodeState.FAILED, reason, now, failure=failure):
                machines.mark_node_unknown(transaction, self._name, f"node {self._name}: {reason}", now)
        self._code = "stranger"
        log.warning("another agent answers", extra={"node": self._name})

    def tell_of_silence(self, node: Node, error: GarbiError, heard_at: datetime | None) -> bool:
        """It has been silent for too long; True when that is news. A node that was never met stays failed."""
        since = f"since {heard_at:%Y-%m-%d %H:%M:%S} UTC" if heard_at is not None else "yet"
        reason = complaint(self._name, error, since)
        state = state_after(node.state, node.draining, Reach.UNREACHABLE) if node.cluster_id else node.state
        if state is node.state:
            self._tell(node, reason, error.code)
            return False
        now = self._clock.now()
        with self._database.write() as transaction:
            if nodes.set_state(transaction, self._name, state, reason, now):
                words = f"node {self._name} is unreachable: no answer {since}"
                machines.mark_node_unknown(transaction, self._name, words, now)
        reach("node.unreachable.recorded")
        self._code = error.code
        log.warning("node is unreachable", extra={"node": self._name, "detail": error.detail})
        return True

    def _tell(self, node: Node, reason: str, code: str) -> None:
        """Write the present reason of a node whose state stays, with an event when it is of another kind than before.

        What is done about its silence (see `monitor.failover`) is written behind it, and stays.
        """
        if node.state not in (NodeState.UNREACHABLE, NodeState.FAILED) or plain(node.reason) == reason:
            return
        now = self._clock.now()
        with self._database.write() as transaction:
            present = nodes.find(transaction.connection, self._name)
            if present is None or present.state is not node.state:
                return
            nodes.note_reason(transaction, self._name, reason + present.reason[len(plain(present.reason)) :])
            if code != self._code:
                kind, state = events.Kind.STATE, present.state
                events.append(transaction, Subject.NODE, self._name, kind, now, state=state, reason=reason)
        self._code = code
