"""The controller dies at each place that an operation passes; the next one brings everything to an end without a human."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from tests.iaas.clouds import Cloud, FakeHost
from tests.iaas.stages import LEAST, Stage

from garbi.base.failpoints import EXIT_CODE

MakeNodes = Callable[..., list[FakeHost]]


@pytest.mark.parametrize("operation", LEAST)
def test_a_controller_that_dies_anywhere_leaves_nothing_undone(
    cloud: Cloud, fake_nodes: MakeNodes, operation: str
) -> None:
    fake_nodes(2)
    stage = Stage(cloud, operation)
    stage.prepare()
    undisturbed = stage.run("")
    assert (undisturbed.code, undisturbed.answered) == (0, True)
    assert LEAST[operation] <= set(undisturbed.visited)
    stage.check(answered=True)
    for place in dict.fromkeys(undisturbed.visited):
        stage.prepare()
        ending = stage.run(place)
        assert ending.code == EXIT_CODE or place not in ending.visited, f"{place} was passed alive: {ending}"
        stage.check(ending.answered)
    assert threading.active_count() < 100
