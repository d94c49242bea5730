"""What is said of a node, from how long it has been silent and from its own words."""

from __future__ import annotations

import pytest

from garbi.base.errors import ServerUnreachable
from garbi.iaas.model.node import TRANSITIONS, NodeState
from garbi.iaas.monitor.facts import read_facts
from garbi.iaas.monitor.verdict import TRUSTED, WATCHED, Reach, judge, state_after

HOST = {
    "cluster_id": "c",
    "boot_id": "b",
    "architecture": "x86_64",
    "cpus": 4,
    "load_average": 0.5,
    "memory": {"total_mib": 1000, "available_mib": 400},
    "disk": {"total_bytes": 10 * 2**20, "free_bytes": 0},
    "limits": {"mem": 800, "cpus": 64},
    "versions": {"garbi": "1"},
}


def test_a_node_is_unreachable_only_after_its_time_of_grace() -> None:
    assert judge(10.0, 25.0, 15.0) is Reach.REACHABLE
    assert judge(10.0, 25.1, 15.0) is Reach.UNREACHABLE


@pytest.mark.parametrize("state", NodeState)
@pytest.mark.parametrize("reach", Reach)
@pytest.mark.parametrize("draining", [True, False])
def test_a_verdict_leads_only_where_the_table_of_states_does(state: NodeState, reach: Reach, draining: bool) -> None:
    assert TRANSITIONS.allows(state, state_after(state, draining, reach))


def test_a_node_that_was_draining_drains_on_when_it_is_back() -> None:
    assert state_after(NodeState.UNREACHABLE, True, Reach.REACHABLE) is NodeState.DRAINING
    assert state_after(NodeState.UNREACHABLE, False, Reach.REACHABLE) is NodeState.READY


def test_orders_go_only_to_nodes_that_are_watched() -> None:
    assert set(TRUSTED) <= set(WATCHED)


def test_what_others_use_of_a_node_is_not_there_to_be_given_away() -> None:
    facts = read_facts(HOST, [], foreign_mem=300)
    assert (facts.has.mem, facts.has.cpus, facts.has.disk) == (500, 4, 10)
    assert facts.load.mem_used == 600


@pytest.mark.parametrize("missing", HOST)
def test_what_is_not_a_hyper_is_said_to_be_none(missing: str) -> None:
    with pytest.raises(ServerUnreachable):
        read_facts({key: value for key, value in HOST.items() if key != missing}, [])
