"""Whose word a proof is: the answer of a host counts for the agent that the node has, and lists what it left."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.fences.nodes import a_node

from garbi.base.child import Ended
from garbi.base.errors import FenceFailed
from garbi.iaas.fences.protocol import Proof
from garbi.iaas.fences.ssh import read_proof

OWN, OTHER = "a1" * 16, "b2" * 16
ANSWER: dict[str, Any] = {
    "fenced": 3, "boot_id": "b0", "cluster_id": OWN, "stopped": ["web"], "running": [], "left": ["vm-1"], "why": {},
    "unseen": {}, "earlier": {},
}  # fmt: skip


def read(code: int = 0, /, without: str = "", **changes: Any) -> Proof:
    answer = {key: value for key, value in (ANSWER | changes).items() if key != without}
    return read_proof(Ended(0, f"garbi-fence {code} {json.dumps(answer)}\n", ""), a_node(cluster_id=OWN))


def test_the_agent_of_the_node_proves_for_all_but_what_it_left() -> None:
    proof = read()
    assert (proof.stopped, proof.left, proof.only) == (frozenset({"web"}), frozenset({"vm-1"}), None)


@pytest.mark.parametrize("changes", [{}, {"stopped": []}, {"earlier": {OWN: ["web"]}}])
def test_another_agent_proves_nothing_whatever_it_says(changes: dict[str, Any]) -> None:
    with pytest.raises(FenceFailed, match="speaks for agent b2b2b2b2, and node n1 is agent a1a1a1a1"):
        read(cluster_id=OTHER, **changes)


def test_an_older_hyper_that_does_not_say_whose_it_is_proves_nothing() -> None:
    with pytest.raises(FenceFailed, match="upgrade it"):
        read(without="cluster_id")


def test_a_lost_database_proves_what_the_marks_of_its_agent_say() -> None:
    proof = read(cluster_id="", earlier={OWN: ["web", "db"], OTHER: ["old"]})
    assert proof.only == frozenset({"web", "db"})
    for earlier in ({}, {OTHER: ["web"]}, None, [OWN]):
        with pytest.raises(FenceFailed, match="this proves nothing"):
            read(cluster_id="", earlier=earlier)
    with pytest.raises(FenceFailed, match="no list of machines"):
        read(cluster_id="", earlier={OWN: "web"})


@pytest.mark.parametrize("cluster_id", [None, 7, ["x"], OTHER.upper(), "\x1b[31m"])
def test_what_is_no_id_of_an_agent_is_not_that_of_the_node(cluster_id: Any) -> None:
    with pytest.raises(FenceFailed):
        read(cluster_id=cluster_id)


@pytest.mark.parametrize("unseen", [{"docker": "it does not answer"}, {"docker": 1}, ["docker"], "docker"])
def test_an_engine_that_was_not_seen_proves_nothing(unseen: Any) -> None:
    with pytest.raises(FenceFailed, match="cannot see what runs there: "):
        read(1, unseen=unseen)
    with pytest.raises(FenceFailed, match="cannot see what runs there: "):
        read(unseen=unseen)
