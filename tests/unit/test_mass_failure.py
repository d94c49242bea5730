"""When too many nodes seem dead at once to believe it; and which machines of a dead node are created again elsewhere."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from garbi.iaas.model.node import NodeState
from garbi.iaas.monitor.failover import RECENTLY_S, Condition, long_gone, too_many_dead

READY, SILENT, DEAD = NodeState.READY, NodeState.UNREACHABLE, NodeState.UNAVAILABLE


def cloud(nodes: int, silent: int = 0, dead: int = 0, dead_for_s: float = 60.0) -> list[Condition]:
    """So many nodes, of which some are silent and some were proven dead."""
    states = [SILENT] * silent + [DEAD] * dead + [READY] * (nodes - silent - dead)
    return [Condition(f"n{number:02}", state, dead_for_s) for number, state in enumerate(states)]


@pytest.mark.parametrize(("nodes", "silent"), [(1, 1), (2, 1), (3, 1), (100, 1), (7, 2), (100, 2)])
def test_few_that_die_are_no_mass_failure(nodes: int, silent: int) -> None:
    assert too_many_dead(cloud(nodes, silent)) is None


@pytest.mark.parametrize(("nodes", "silent"), [(2, 2), (3, 2), (6, 2), (7, 3), (100, 3), (9, 3)])
def test_a_third_of_the_nodes_or_three_are_a_mass_failure(nodes: int, silent: int) -> None:
    found = too_many_dead(cloud(nodes, silent))
    assert found is not None
    assert (len(found.dead), found.nodes) == (silent, nodes)
    assert "confirm-dead" in found.words()


def test_a_node_that_was_proven_dead_counts_for_ten_minutes() -> None:
    assert too_many_dead(cloud(6, silent=1, dead=1)) is not None
    assert too_many_dead(cloud(6, silent=1, dead=1, dead_for_s=RECENTLY_S)) is None


def test_nodes_that_are_not_watched_count_for_nothing() -> None:
    added = [Condition(f"m{number}", NodeState.FAILED, 0.0) for number in range(9)]
    assert too_many_dead([*cloud(3, silent=2), *added]) is not None
    assert too_many_dead([*cloud(7, silent=2), *added]) is None


def test_a_node_that_fell_silent_alone_and_long_ago_counts_no_more() -> None:
    long_ago = Condition("off", SILENT, 3 * RECENTLY_S)
    for nodes in range(1, 8):
        assert too_many_dead([long_ago, *cloud(nodes, silent=1, dead_for_s=5.0)]) is None
    assert long_gone([long_ago, *cloud(3, silent=1, dead_for_s=5.0)]) == {"off"}
    earlier = Condition("earlier", SILENT, 9 * RECENTLY_S)
    assert too_many_dead([earlier, long_ago, *cloud(3, silent=1, dead_for_s=5.0)]) is None


def test_a_node_that_fell_silent_shortly_before_another_counts() -> None:
    just = Condition("off", SILENT, RECENTLY_S - 1)
    assert too_many_dead([just, *cloud(3, silent=1, dead_for_s=0.0)]) is not None
    assert long_gone([just, *cloud(3)]) == set()


def test_nodes_that_fell_silent_together_count_as_long_as_they_are_silent() -> None:
    both = [Condition("a", SILENT, 20 * RECENTLY_S), Condition("b", SILENT, 20 * RECENTLY_S + 5)]
    assert too_many_dead([*both, *cloud(4)]) is not None
    assert long_gone([*both, *cloud(4)]) == set()
    assert too_many_dead([*both, *cloud(20, silent=1, dead_for_s=1.0)]) is not None


def test_a_node_that_was_proven_dead_is_no_company_for_one_that_was_not() -> None:
    proven = Condition("a", DEAD, 2 * RECENTLY_S, 20 * RECENTLY_S)
    left = Condition("b", SILENT, 20 * RECENTLY_S)
    assert long_gone([proven, left, *cloud(4)]) == {"a", "b"}
    assert too_many_dead([proven, left, *cloud(4, silent=1, dead_for_s=1.0)]) is None


def test_silence_counts_from_its_beginning_not_from_the_proof() -> None:
    dead = Condition("a", DEAD, 60.0, 120.0)
    assert too_many_dead([dead, *cloud(4, silent=1, dead_for_s=5.0)]) is not None
    assert long_gone([dead]) == set()


conditions = st.lists(
    st.builds(Condition, st.uuids().map(str), st.sampled_from(NodeState), st.floats(0, 2 * RECENTLY_S)), max_size=30
)


@given(conditions)
def test_one_more_dead_node_never_ends_a_mass_failure(nodes: list[Condition]) -> None:
    if too_many_dead(nodes) is not None:
        assert too_many_dead([*nodes, Condition("one-more", SILENT, 0.0)]) is not None
    for number, each in enumerate(nodes):
        if each.state is READY and too_many_dead(nodes) is not None:
            worse = [*nodes[:number], Condition(each.name, SILENT, 0.0), *nodes[number + 1 :]]
            assert too_many_dead(worse) is not None
