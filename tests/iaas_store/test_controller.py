"""A whole controller does its work on PostgreSQL as it does on SQLite: the rest of its tests need not know which it is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.iaas import clouds

from garbi.hyper_api.vocabulary import State, Wish
from garbi.iaas.model.operation import OperationState


@pytest.fixture
def whole(directory: Path, empty_postgres: str) -> Iterator[clouds.Cloud]:
    """A controller on PostgreSQL, without nodes."""
    directory.chmod(0o711)
    with clouds.cloud_at(directory) as cloud:
        cloud.settings = replace(cloud.settings, database=empty_postgres)
        yield cloud


def test_a_cloud_lives_on_postgresql(whole: clouds.Cloud) -> None:
    for _ in range(2):
        whole.join(whole.host())
    first, second = whole.add(id="a"), whole.add(id="b")
    assert {first.node, second.node} == {"n1", "n2"}
    assert first.state is State.RUNNING
    whole.controller.machines.wish("a", Wish.STOPPED)
    assert whole.settled("a").state is State.STOPPED
    whole.reopen()
    assert whole.controller.machines.get("b") == second
    whole.controller.machines.remove("a")
    whole.gone("a")
    draining = whole.controller.nodes.drain(str(second.node))
    assert whole.finished(draining).state is OperationState.DONE
    assert whole.settled("b").node != second.node
    whole.sound()
