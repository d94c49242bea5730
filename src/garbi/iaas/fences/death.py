"""What follows from a proof that a node is dead: one transaction, whoever proved it. Nothing else declares machines failed."""

from __future__ import annotations

from datetime import datetime

from garbi.base.errors import Conflict
from garbi.base.problem import to_problem
from garbi.hyper_api.vocabulary import State, Wish
from garbi.iaas.fences.protocol import Proof
from garbi.iaas.model.machine import Machine, Moving
from garbi.iaas.model.node import Node, NodeState
from garbi.iaas.model.operation import OperationState
from garbi.iaas.monitor.failover import is_wished_again, lost_reason, reason_of_loss
from garbi.iaas.store import events, machines, nodes, operations
from garbi.iaas.store.database import Transaction

USER = "user"
"""Who proves by word alone: an operator."""


def actor_of(proof: Proof) -> str:
    """Who is named in events that follow from a proof."""
    return events.USER if proof.by == USER else f"fence:{proof.by}"


def declare_dead(transaction: Transaction, node: Node, proof: Proof, now: datetime) -> list[Machine]:
    """Write that a node is unavailable, that its lease has ended, and that the machines which the proof covers are lost.

    Operations of those machines fail, but those that remove them. Returns the machines of the node as they are then. To be called
    with the node as it is in this transaction.
    """
    actor = actor_of(proof)
    what = "an operator says that it is dead" if proof.by == USER else f"fenced by {proof.by}"
    words = f"{what}: {proof.words}" if proof.words else what
    nodes.set_state(transaction, node.name, NodeState.UNAVAILABLE, words, now, actor=actor)
    nodes.raise_lease(transaction, node.name, node.lease)
    lost = lost_reason(node.name, words)
    for machine in machines.of_node(transaction.connection, node.name):
        if machine.moving is Moving.GONE:  # nothing of it was there
            continue
        if proof.covers(machine):
            _lose(transaction, machine, lost, now, actor)
        elif machine.state is State.UNKNOWN or machine.state in machines.GONE_QUIET:
            left = f"node {node.name} was {what}: this machine was left there as it was"
            machines.mark(transaction, machine, State.UNKNOWN, left, now, actor=actor)
    return machines.of_node(transaction.connection, node.name)


def _lose(transaction: Transaction, machine: Machine, lost: str, now: datetime, actor: str) -> None:
    if machine.operation is not None and machine.wish is not Wish.REMOVED:
        error = to_problem(Conflict(lost, node=machine.node))
        operations.finish(transaction, machine.operation, OperationState.FAILED, now, error=error)
    if is_wished_again(machine):
        machine = machines.wish_again(transaction, machine, now)
    machines.mark(transaction, machine, State.FAILED, reason_of_loss(machine, lost), now, actor=actor)
