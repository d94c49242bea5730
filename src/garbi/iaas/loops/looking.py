"""How the loops look at machines through their nodes. A look that fails is no answer: nothing about a machine follows from it."""

from __future__ import annotations

from garbi.base.calls import Document
from garbi.base.errors import NotFound, ServerUnreachable
from garbi.hyper_api.client import HyperClient
from garbi.hyper_api.vocabulary import State
from garbi.iaas.converge import Absent, Sight
from garbi.iaas.model.marks import epoch_of
from garbi.iaas.model.node import Node


def look_at(machine_id: str, client: HyperClient, controller_id: str) -> Absent | Sight:
    """What a node says of one machine; raises what the request meets."""
    try:
        return read(client.machines.get(machine_id), controller_id)
    except NotFound:
        return Absent()


def check_identity(node: Node, client: HyperClient) -> None:
    """Raise ServerUnreachable when it is not the node's own agent that answers."""
    found = client.host().get("cluster_id")
    if found != node.cluster_id:
        raise ServerUnreachable(f"another agent answers at {node.address}: its cluster id is {found}")


def read(document: Document, controller_id: str) -> Sight:
    """A node's document of a machine as a value; words that are not known here are `unknown`."""
    return Sight(
        state=read_state(document.get("state")),
        settled=document.get("settled") is True,
        reason=str(document.get("reason") or ""),
        address=document.get("address") if isinstance(document.get("address"), str) else None,
        epoch=epoch_of(_labels(document), controller_id),
        going=document.get("wish") == "removed",
    )


def read_state(word: object) -> State:
    """A node's word for the state of a machine. That nothing was begun yet is true of its own work, no more of the machine."""
    state = State(str(word)) if word in list(State) else State.UNKNOWN
    return State.CREATING if state is State.PENDING else state


def _labels(document: Document) -> dict[str, str]:
    labels = document.get("labels")
    return labels if isinstance(labels, dict) else {}
