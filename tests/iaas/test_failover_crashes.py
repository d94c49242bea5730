"""The controller dies at each place of a failover; the next one brings it to the same end, and no machine ever runs twice."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace

import pytest
from tests.iaas.clouds import Cloud, FakeHost, eventually, is_written, machine_is
from tests.iaas.test_failover_by_lease import TTL_S, guarded, never_twice
from tests.iaas.watches import FallingStage

from garbi.hyper_api.vocabulary import State

MakeNodes = Callable[..., list[FakeHost]]

FALLING = (
    "node.unreachable.recorded",
    "failover.fence.begun",
    "failover.fence.done",
    "failover.dead.recorded",
    "failover.planned",
    "failover.move.reserved",
    "failover.move.recorded",
    "failover.explained",
)
RETURNING = ("returning.ordered", "node.returned.recorded")
UNPROVEN = ("failover.unproven.recorded", "node.confirm-dead.recorded")
"""Where no fence has a proof, and an operator gives his word."""

RENEWED = "node.lease.recorded"
"""Where a node answers whose lease has ended."""

RECORDS = ("lease.record.struck", "lease.record.written")
"""Where it is written down what nodes agreed to."""


@pytest.fixture
def stage(cloud: Cloud, fake_nodes: MakeNodes) -> FallingStage:
    return FallingStage(cloud, fake_nodes(3))


@pytest.mark.parametrize("places", [FALLING[:4], FALLING[4:]], ids=["fence", "move"])
def test_a_failover_that_is_cut_short_comes_to_the_same_end(stage: FallingStage, places: tuple[str, ...]) -> None:
    for place in places:
        old = stage.home()
        stage.cloud.close_controller()
        old.stop()
        stage.die_at(place)
        stage.check_moved_from(old)
        old.start()
        stage.check_back(old)


def test_a_return_that_is_cut_short_comes_to_the_same_end(stage: FallingStage) -> None:
    for place in RETURNING:
        old = stage.home()
        old.stop()
        stage.check_moved_from(old)
        stage.cloud.close_controller()
        old.start()
        stage.die_at(place)
        stage.check_back(old)


def test_an_operators_word_is_kept_by_the_next_controller_and_nothing_moves_before_it(stage: FallingStage) -> None:
    stage.cloud.fences = []
    old = stage.home()
    lease = stage.cloud.controller.nodes.get(old.name).lease
    stage.cloud.close_controller()
    old.stop()
    unproven, confirmed = UNPROVEN
    stage.die_at(unproven)
    assert stage.cloud.controller.machines.get("m").node == old.name
    stage.cloud.close_controller()
    stage.fence.stop(old.name, lease)  # what the operator has seen to
    stage.die_at(confirmed, gone=old.name)
    stage.check_moved_from(old)
    old.start()
    stage.check_back(old)


def test_machines_that_are_held_are_told_to_run_by_the_controller_after_the_one_that_began_their_lease(
    stage: FallingStage,
) -> None:
    home = stage.home()
    lease = stage.cloud.controller.nodes.get(home.name).lease
    stage.cloud.close_controller()
    stage.fence.stop(home.name, lease)
    assert home.running() == []
    stage.die_at(RENEWED)
    stage.cloud.reopen()
    eventually("it runs again", lambda: home.running() == ["m"])
    machine_is(stage.cloud, "m", State.RUNNING)
    assert (stage.home(), stage.cloud.controller.nodes.get(home.name).lease) == (home, lease + 1)
    stage.cloud.sound()


def test_a_lease_whose_record_was_cut_short_stops_nothing_and_proves_nothing_too_early(
    cloud: Cloud, fake_nodes: MakeNodes
) -> None:
    cloud.settings = replace(cloud.settings, lease_ttl_s=TTL_S, lease_margin_s=5.0)
    stage = FallingStage(cloud, fake_nodes(3))
    cloud.fences = []
    with ExitStack() as watchdogs:
        for host in cloud.hosts:
            watchdogs.enter_context(guarded(host))
        for place in RECORDS:
            cloud.reopen()
            eventually("all is written down", lambda: all(is_written(cloud, f"lease:{name}") for name in stage.hosts))
            cloud.close_controller()
            stage.die_at(place)
        cloud.reopen()
        eventually("all is written down", lambda: all(is_written(cloud, f"lease:{name}") for name in stage.hosts))
        old = stage.home()
        assert [machine.power_ons for machine in old.world.machines()] == [1]
        with never_twice(cloud, "m"):
            old.hide()
            stage.check_moved_from(old)
            old.open()
            stage.check_back(old)
