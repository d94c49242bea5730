"""What a node says of itself: whether it can be that node, and how it is written down."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection

from garbi import __version__
from garbi.base.errors import Conflict
from garbi.iaas.model.node import Node
from garbi.iaas.monitor.facts import Facts
from garbi.iaas.store import nodes
from garbi.iaas.store.database import Transaction


def check_agent(connection: Connection, node: Node, facts: Facts) -> None:
    """Raise Conflict when the agent that says so cannot be that of a node which was not met before."""
    version = facts.versions.get("garbi", "of no known version")
    if version != __version__:
        raise Conflict(f"node {node.name}: hyper {version} answers there, this controller is {__version__}")
    others = [each for each in nodes.list(connection) if each.name != node.name]
    same = next((each.name for each in others if each.cluster_id == facts.cluster_id), None)
    if same is not None:
        raise Conflict(f"node {node.name}: the agent at {node.address} is that of node {same} already", node=same)


def note_facts(transaction: Transaction, name: str, facts: Facts, now: datetime) -> None:
    """Write down what a node says of itself, and that it answered `now`."""
    nodes.note_facts(
        transaction,
        name,
        facts.has,
        facts.load,
        facts.architecture,
        facts.drivers,
        facts.versions,
        facts.cluster_id,
        facts.boot_id,
        now,
        facts.host_mem,
    )
