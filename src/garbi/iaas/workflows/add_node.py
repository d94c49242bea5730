"""Makes a host a node: sets it up over SSH, meets its agent, writes down what it has. Every step finds done what was done."""

from __future__ import annotations

import threading

from garbi import __version__
from garbi.base.errors import Conflict, GarbiError, ServerUnreachable
from garbi.iaas.model.node import Node, NodeState
from garbi.iaas.model.operation import Operation
from garbi.iaas.monitor.facts import Facts, read_facts
from garbi.iaas.nodes import speaking_to
from garbi.iaas.store import nodes
from garbi.iaas.store.database import Transaction
from garbi.iaas.workflows.facts import note_facts
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

    def steps(self, operation: Operation) -> list[Step]:
        """Provision the host unless it was made ready by others, then meet the agent."""
        name = operation.target

        def provision(report: OnProgress, cancelled: threading.Event) -> None:
            from garbi.iaas.provisioning import provision as work

            if self._hosts.node(name).provision:
                self._hosts.provision(work, name, report, cancelled)

        def meet(_report: OnProgress, cancelled: threading.Event) -> None:
            self._meet(name, cancelled)

        return [Step("setting up the host", provision, weight=18), Step("meeting the agent", meet)]

    def conclude(self, transaction: Transaction, operation: Operation) -> str:
        """From now on it takes machines, unless it is being removed meanwhile."""
        node = nodes.find(transaction.connection, operation.target)
        if node is None or node.state is not NodeState.ADDING:
            return "it is being removed"
        nodes.set_state(transaction, node.name, NodeState.READY, "", self._hosts.clock.now())
        return f"node {node.name} is ready"

    def fail(self, transaction: Transaction, operation: Operation, error: GarbiError) -> None:
        """It stays, failed, to be tried again or removed."""
        node = nodes.find(transaction.connection, operation.target)
        if node is not None and node.state is NodeState.ADDING:
            nodes.set_state(transaction, node.name, NodeState.FAILED, error.detail, self._hosts.clock.now())

    def after(self, operation: Operation) -> None:
        """Watch the node once it is ready."""
        with self._hosts.database.read() as connection:
            node = nodes.find(connection, operation.target)
        if node is not None and node.state is NodeState.READY:
            self._hosts.watch(node.name)

    def _meet(self, name: str, cancelled: threading.Event) -> None:
        self._hosts.clients.forget(name)
        node = self._hosts.node(name)
        facts = self._greet(node, cancelled)
        self._check(node, facts)
        with self._hosts.database.write() as transaction:
            note_facts(transaction, name, facts, self._hosts.clock.now())
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

    def _check(self, node: Node, facts: Facts) -> None:
        """Raise Conflict when the agent cannot be that of this node."""
        version = facts.versions.get("garbi", "of no known version")
        if version != __version__:
            raise Conflict(f"node {node.name}: hyper {version} answers there, this controller is {__version__}")
        with self._hosts.database.read() as connection:
            others = [each for each in nodes.list(connection) if each.name != node.name]
        same = next((each.name for each in others if each.cluster_id == facts.cluster_id), None)
        if same is not None:
            raise Conflict(f"node {node.name}: the agent at {node.address} is that of node {same} already", node=same)
