"""How what a node says of itself is written down."""

from __future__ import annotations

from datetime import datetime

from garbi.iaas.monitor.facts import Facts
from garbi.iaas.store import nodes
from garbi.iaas.store.database import Transaction


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
    )
