"""Finds out whether nothing is left of a machine that its node does not list.

That an agent does not list a machine proves nothing: its database may have been lost or be older than the machine. Its engine is
asked besides. Of a machine that went without an order of ours, every other node is asked, too: our own records may be those that
are too old, and it runs elsewhere by now.
"""

from __future__ import annotations

from garbi.base.errors import GarbiError, NotFound, ServerUnreachable, StaleOrder, Unauthenticated
from garbi.hyper_api.client import HyperClient
from garbi.iaas.converge import Absent, Certainty, Sight
from garbi.iaas.loops.looking import check_identity, look_at
from garbi.iaas.model.machine import Machine, Moving
from garbi.iaas.model.node import Node, NodeState
from garbi.iaas.monitor.verdict import TRUSTED
from garbi.iaas.nodes import NodeClients, speaking_to
from garbi.iaas.store import nodes
from garbi.iaas.store.database import Database

PROBE_S = 10.0
"""How long the answer of another node may take."""

GONE = Absent(Certainty.GONE)


class Confirming:
    """Asks the nodes of a controller about one machine at a time."""

    def __init__(self, database: Database, clients: NodeClients, controller_id: str) -> None:
        self._database = database
        self._clients = clients
        self._controller_id = controller_id

    def confirm(self, machine: Machine, node: Node) -> Absent:
        """Whether nothing is left of a machine that its node does not list; raises ServerUnreachable when nobody answers,
        StaleOrder when the node obeys a later controller.
        """
        client = self._clients.of(node)
        check_identity(node, client)
        try:
            assignment = self._clients.assignment(node, machine.epoch)
            traces = client.machines.traces(machine.id, machine.type, assignment)
        except (ServerUnreachable, StaleOrder, Unauthenticated):
            raise
        except NotFound:
            return self._of_an_older_agent(machine, client)
        except GarbiError as error:
            return _unsure(f"whether its engine has it is not known: {error.detail}")
        if traces.get("recorded") is not False:
            return Absent()  # it is back, and the next look says how it is
        if traces.get("at_engine") is not False:
            return _unsure(f"the agent has no record of it, but its engine ({machine.type}) has it")
        return self._ask_others(machine)

    def _of_an_older_agent(self, machine: Machine, client: HyperClient) -> Absent:
        """An agent of an earlier version cannot be asked for its engine; what it removed by our order, it has removed."""
        try:
            client.machines.get(machine.id)
            return Absent()
        except NotFound as error:
            removed = "removed_at" in error.extra and machine.moving is Moving.LEAVING
            return GONE if removed else _unsure("its agent is too old to say what its engine has")

    def _ask_others(self, machine: Machine) -> Absent:
        """A node that cannot be asked holds up what disappeared, unless it is proven dead; not what left by our order."""
        with self._database.read() as connection:
            others = [each for each in nodes.list(connection) if each.name != machine.node and each.cluster_id]
        strict = machine.moving is Moving.NO
        for other in others:
            why = self._ask(machine, other, strict)
            if why:
                return _unsure(why)
        return GONE

    def _ask(self, machine: Machine, other: Node, strict: bool) -> str:
        """Why it is not certain that another node has no such machine; empty when it is."""
        if other.state is NodeState.UNAVAILABLE:
            return ""
        if other.state not in TRUSTED:
            return f"node {other.name}, which is {other.state}, cannot be asked whether it is there" if strict else ""
        try:
            with speaking_to(other.name):
                seen = look_at(machine.id, self._clients.prober_of(other, PROBE_S), self._controller_id)
        except GarbiError as error:
            return f"it cannot be asked whether it is elsewhere: {error.detail}" if strict else ""
        newer = isinstance(seen, Sight) and seen.epoch is not None and seen.epoch >= machine.epoch
        return f"node {other.name} has it, by a later word than what is known here" if newer else ""


def _unsure(why: str) -> Absent:
    return Absent(Certainty.UNSURE, why)
