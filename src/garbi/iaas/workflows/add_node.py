"""Makes a host a node: sets it up over SSH, meets its agent, writes down what it has. Every step finds done what was done."""

from __future__ import annotations

import threading

from garbi.base.errors import GarbiError, ServerUnreachable
from garbi.iaas.model.node import Failure, Node, NodeState
from garbi.iaas.model.operation import Operation
from garbi.iaas.monitor.facts import Facts, read_facts
from garbi.iaas.monitor.verdict import is_watched
from garbi.iaas.nodes import speaking_to
from garbi.iaas.store import nodes, restoring, tombstones
from garbi.iaas.store.database import Transaction
from garbi.iaas.workflows.facts import check_agent, note_facts
from garbi.iaas.workflows.hosts import Hosts
from garbi.iaas.workflows.steps import OnProgress, Step

MEETING_S = 3.0
"""How long an agent that the user says is there may be silent."""

STARTING_S = 60.0
"""How long an agent may take to answer after its host was set up."""

PAUSE_S = 0.5
PROBE_S = 10.0


class AddNode:
    """The operation `node-add`."""

    def __init__(self, hosts: Hosts) -> None:
        self._hosts = hosts
        self._set_up: set[str] = set()

    def steps(self, operation: Operation) -> list[Step]:
        """Provision the host unless it was made ready by others, then meet the agent."""
        name = operation.target

        def provision(report: OnProgress, cancelled: threading.Event) -> None:
            from garbi.iaas.provisioning import provision as work

            if self._hosts.node(name).provision:
                self._hosts.provision(work, name, report, cancelled)

        def meet(_report: OnProgress, cancelled: threading.Event) -> None:
            self._set_up.add(operation.id)
            self._meet(name, cancelled)

        return [Step("setting up the host", provision, weight=18), Step("meeting the agent", meet)]

    def conclude(self, transaction: Transaction, operation: Operation) -> str:
        """From now on it takes machines, unless it is being removed meanwhile."""
        self._set_up.discard(operation.id)
        node = nodes.find(transaction.connection, operation.target)
        if node is None or node.state is not NodeState.ADDING:
            return "it is being removed"
        nodes.set_state(transaction, node.name, NodeState.READY, "", self._hosts.clock.now())
        return f"node {node.name} is ready"

    def fail(self, transaction: Transaction, operation: Operation, error: GarbiError) -> None:
        """It stays, failed: an agent that is slow is waited for, a host that could not be set up is tried again or removed."""
        failure = Failure.AGENT if operation.id in self._set_up else Failure.SETUP
        self._set_up.discard(operation.id)
        node = nodes.find(transaction.connection, operation.target)
        if node is not None and node.state is NodeState.ADDING:
            now = self._hosts.clock.now()
            nodes.set_state(transaction, node.name, NodeState.FAILED, error.detail, now, failure=failure)

    def after(self, operation: Operation) -> None:
        """Watch the node once it is ready, or until its agent answers."""
        with self._hosts.database.read() as connection:
            node = nodes.find(connection, operation.target)
        if node is not None and is_watched(node):
            self._hosts.watch(node.name)

    def _meet(self, name: str, cancelled: threading.Event) -> None:
        self._hosts.clients.forget(name)
        node = self._hosts.node(name)
        facts = self._greet(node, cancelled)
        with self._hosts.database.read() as connection:
            check_agent(connection, node, facts)
        number = self._lease_there(node)
        with self._hosts.database.write() as transaction:
            note_facts(transaction, name, facts, self._hosts.clock.now())
            restoring.raise_lease(transaction, name, number)
            tombstones.delete(transaction, facts.cluster_id)  # its strays are removed as those of any node
        self._hosts.renew(self._hosts.node(name))

    def _greet(self, node: Node, cancelled: threading.Event) -> Facts:
        """What the agent says of itself; one that was just started may take a moment."""
        clock = self._hosts.clock
        deadline = clock.monotonic() + (STARTING_S if node.provision else MEETING_S)
        while True:
            try:
                with speaking_to(node.name):
                    client = self._hosts.clients.prober_of(node, PROBE_S)
                    return read_facts(client.host(), client.drivers())
            except ServerUnreachable:
                if clock.monotonic() >= deadline or cancelled.wait(PAUSE_S):
                    raise

    def _lease_there(self, node: Node) -> int:
        """The number of the lease that its agent had from this cloud, when it was a node of it before; 0 when it had none."""
        with speaking_to(node.name):
            leases = self._hosts.clients.prober_of(node, PROBE_S).leases.list()
        own = self._hosts.controller_id
        return max([0, *(int(each["number"]) for each in leases if each.get("controller") == own)])
