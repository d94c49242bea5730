"""A controller that dies in a failover is followed by one that dies where it goes on, and the third brings it to the same end."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.iaas.clouds import Cloud, FakeHost
from tests.iaas.test_failover_crashes import FALLING, RETURNING
from tests.iaas.watches import FallingStage

MakeNodes = Callable[..., list[FakeHost]]

AFTER_FALL = {
    "node.unreachable.recorded": "failover.fence.begun",
    "failover.fence.begun": "failover.fence.done",
    "failover.fence.done": "failover.dead.recorded",
    "failover.dead.recorded": "failover.planned",
    "failover.planned": "failover.move.reserved",
    "failover.move.reserved": "failover.move.recorded",
    "failover.move.recorded": "machine.create.done",
    "failover.explained": "leadership.gained",
}
"""Where the next controller dies: at the first place that it passes, and the one before did not."""

AFTER_RETURN = {"returning.ordered": "node.returned.recorded", "node.returned.recorded": "leadership.gained"}
ROUNDS = [*AFTER_FALL.items()]


@pytest.mark.parametrize("rounds", [ROUNDS[:3], ROUNDS[3:6], ROUNDS[6:]], ids=["fence", "move", "create"])
def test_a_failover_whose_recovery_is_killed_comes_to_the_same_end(
    cloud: Cloud, fake_nodes: MakeNodes, rounds: list[tuple[str, str]]
) -> None:
    stage = FallingStage(cloud, fake_nodes(3))
    for first, second in rounds:
        old = stage.home()
        cloud.close_controller()
        old.stop()
        stage.die_at(first)
        stage.die_at(second)
        stage.check_moved_from(old)
        old.start()
        stage.check_back(old)


def test_a_return_whose_recovery_is_killed_comes_to_the_same_end(cloud: Cloud, fake_nodes: MakeNodes) -> None:
    stage = FallingStage(cloud, fake_nodes(3))
    for first, second in AFTER_RETURN.items():
        old = stage.home()
        old.stop()
        stage.check_moved_from(old)
        cloud.close_controller()
        old.start()
        stage.die_at(first)
        stage.die_at(second)
        stage.check_back(old)


def test_each_place_is_followed_by_another() -> None:
    assert (tuple(AFTER_FALL), tuple(AFTER_RETURN)) == (FALLING, RETURNING)
