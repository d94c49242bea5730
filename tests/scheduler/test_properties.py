"""What the scheduler promises of any fleet and any machine."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tests.scheduler.fleets import Fleet, a_node, amounts, an_ask, asks, fleets

from garbi.base.errors import Conflict, NothingFits, PortTaken
from garbi.iaas.model.machine import Strategy
from garbi.iaas.model.node import Amounts
from garbi.iaas.scheduler import FILTERS, Ask, Candidate, place


@given(asks, fleets)
def test_a_node_is_chosen_exactly_when_one_passes_every_filter(ask: Ask, fleet: list[Candidate]) -> None:
    passing = {each.node.name for each in fleet if all(filter.check(ask, each) for filter in FILTERS)}
    chosen = place(ask, fleet).chosen
    assert chosen in passing if passing else chosen is None


@given(asks, fleets)
def test_every_node_has_one_verdict_with_a_reason(ask: Ask, fleet: list[Candidate]) -> None:
    answer = place(ask, fleet)
    assert [verdict.node for verdict in answer.verdicts] == sorted(each.node.name for each in fleet)
    assert all(verdict.reason for verdict in answer.verdicts)
    assert all(verdict.fits == (verdict.score is not None) == (not verdict.filter) for verdict in answer.verdicts)
    assert answer.chosen is None or [v.node for v in answer.verdicts if v.reason.startswith("chosen")] == [
        answer.chosen
    ]


@given(asks, fleets)
def test_a_refusal_is_true_and_the_first_of_its_node(ask: Ask, fleet: list[Candidate]) -> None:
    by_name = {each.node.name: each for each in fleet}
    for verdict in place(ask, fleet).verdicts:
        failed = [filter.name for filter in FILTERS if not filter.check(ask, by_name[verdict.node])]
        assert failed[:1] == ([verdict.filter] if verdict.filter else [])


@given(asks, fleets)
def test_the_counts_of_a_refusal_add_up_to_all_nodes(ask: Ask, fleet: list[Candidate]) -> None:
    ask = replace(ask, node=None)
    answer = place(ask, fleet)
    assume(answer.chosen is None and fleet)
    parts = answer.summary().split(", ")
    counted = sum(int(part.removesuffix(" nodes").removesuffix(" node").rpartition(" on ")[2]) for part in parts)
    assert counted == len(fleet)


@given(asks, fleets, st.randoms(use_true_random=False))
def test_the_order_of_the_nodes_changes_nothing(ask: Ask, fleet: list[Candidate], random: Random) -> None:
    shuffled = list(fleet)
    random.shuffle(shuffled)
    assert place(ask, fleet) == place(ask, fleet) == place(ask, shuffled)


@given(asks, fleets)
def test_the_chosen_one_has_the_lowest_score(ask: Ask, fleet: list[Candidate]) -> None:
    answer = place(ask, fleet)
    scores = {verdict.node: verdict.score for verdict in answer.verdicts if verdict.score is not None}
    assert answer.chosen is None or scores[answer.chosen] == min(scores.values())


@given(asks, fleets)
def test_a_refusal_is_an_error_that_carries_every_verdict(ask: Ask, fleet: list[Candidate]) -> None:
    answer = place(ask, fleet)
    assume(answer.chosen is None)
    error = answer.to_error()
    assert isinstance(error, Conflict)
    assert isinstance(error, NothingFits | PortTaken)
    assert [verdict["node"] for verdict in error.extra["verdicts"]] == [verdict.node for verdict in answer.verdicts]


@given(asks, fleets)
def test_no_machine_goes_where_it_has_no_room(ask: Ask, fleet: list[Candidate]) -> None:
    chosen = next((each.node for each in fleet if each.node.name == place(ask, fleet).chosen), None)
    if chosen is not None:
        left = chosen.free - ask.amounts
        assert min(left.mem, left.cpus, left.disk) >= 0


@given(st.integers(1, 9), st.integers(0, 60))
def test_spread_keeps_equal_nodes_within_one_machine_of_each_other(number: int, machines: int) -> None:
    fleet = Fleet.of([a_node(f"n{each}") for each in range(number)])
    for _ in range(machines):
        fleet.add(an_ask())
        assert max(fleet.counts()) - min(fleet.counts()) <= 1


@given(st.integers(1, 6), st.lists(st.one_of(st.none(), st.integers(0, 5)), max_size=60))
def test_spread_never_widens_a_difference_that_removals_left(number: int, steps: list[int | None]) -> None:
    fleet = Fleet.of([a_node(f"n{each}") for each in range(number)])
    for step in steps:
        before = max(fleet.counts()) - min(fleet.counts())
        if step is None:
            fleet.add(an_ask())
            assert max(fleet.counts()) - min(fleet.counts()) <= max(1, before)
        else:
            fleet.remove(f"n{step % number}")


@given(st.lists(st.integers(0, 12), min_size=1, max_size=8), st.integers(0, 40))
def test_pack_uses_the_fewest_nodes_for_equal_machines(rooms: list[int], machines: int) -> None:
    """Of nodes with room for so many machines each, the largest together are the fewest that can take all."""
    fleet = Fleet.of([a_node(f"n{each}", limit=Amounts(256 * room, 16, 0)) for each, room in enumerate(rooms)])
    placed = sum(fleet.add(an_ask(strategy=Strategy.PACK)).chosen is not None for _ in range(machines))
    assert placed == min(machines, sum(rooms))
    fewest, left = 0, placed
    for room in sorted(rooms, reverse=True):
        if left <= 0:
            break
        fewest, left = fewest + 1, left - room
    assert sum(count > 0 for count in fleet.counts()) == fewest


@given(st.lists(st.tuples(st.sampled_from("xyz"), st.sampled_from(Strategy)), max_size=20))
def test_machines_that_are_to_be_apart_never_share_a_node(steps: list[tuple[str, Strategy]]) -> None:
    fleet = Fleet.of([a_node(f"n{each}") for each in range(4)])
    for value, strategy in steps:
        fleet.add(an_ask(apart=("app", value), strategy=strategy))
    for there in fleet.machines.values():
        values = [ask.apart for ask in there]
        assert len(values) == len(set(values))


@settings(max_examples=3)
@given(st.randoms(use_true_random=False), st.lists(amounts, min_size=100, max_size=100), st.sampled_from(Strategy))
def test_a_fleet_of_a_hundred_nodes_and_two_thousand_machines_never_passes_a_limit(
    random: Random, limits: list[Amounts], strategy: Strategy
) -> None:
    fleet = Fleet.of([a_node(f"n{number:03}", limit=limit) for number, limit in enumerate(limits)])
    placed = 0
    for _ in range(2000):
        wanted = Amounts(random.randint(1, 300), random.randint(1, 2), random.randint(0, 50))
        placed += fleet.add(an_ask(amounts=wanted, strategy=strategy)).chosen is not None
    assert placed == sum(fleet.counts())
    for name, node in fleet.nodes.items():
        total = Amounts()
        for ask in fleet.machines[name]:
            total += ask.amounts
        assert total == node.reserved
        assert min(node.free.mem, node.free.cpus, node.free.disk) >= 0
