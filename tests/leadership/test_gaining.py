"""A controller dies at each place of gaining leadership: the next one leads, under a later term, and does all that was left."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.iaas.clouds import FakeHost, machine_spec
from tests.leadership.pairs import Controllers, join, leads, settled
from tests.leadership.processes import ControllerProcess

from garbi.base.errors import FinalError
from garbi.base.failpoints import EXIT_CODE
from garbi.hyper_api.vocabulary import State
from garbi.iaas.main import open_controller
from garbi.iaas.settings import Settings

PLACES = (
    "leadership.lock.taken", "leadership.term.written", "leadership.term.recorded", "controller.open.swept",
    "leadership.gained",
)  # fmt: skip


def test_a_controller_that_dies_while_it_gains_leadership_leaves_it_to_the_next(
    controllers: Controllers, make_host: Callable[[], FakeHost], place: Path, url: str
) -> None:
    host = make_host()
    controller = controllers.open()
    join(controller, host)
    for number, point in enumerate(PLACES):
        term = controller.leadership.term
        dying = ControllerProcess(place / f"dying-{number}", url, crash_at=point)
        try:
            dying.answers()
            assert dying.leads() is False
            host.hide()
            controller.machines.add(machine_spec(id=f"m{number}"))
            controller.close()
            assert dying.wait() == EXIT_CODE, dying.words()
            host.open()
            controller = controllers.open()
            leads(controller)
            assert controller.leadership.term == term + (1 if number < 2 else 2)
            assert settled(controller, f"m{number}").state is State.RUNNING
        finally:
            dying.end()
    assert host.running() == [f"m{number}" for number in range(len(PLACES))]
    assert {machine.power_ons for machine in host.world.machines()} == {1}
    assert controller.audit() == []


def test_a_place_of_the_list_exists(place: Path, url: str) -> None:
    """A controller that leads from its start passes them all, too."""
    for point in PLACES:
        dying = ControllerProcess(place / point, url, crash_at=point)
        try:
            assert dying.wait() == EXIT_CODE, dying.words()
        finally:
            dying.end()


def test_who_would_learn_from_nodes_after_a_restore_is_not_let_in_beside_a_leader(
    controllers: Controllers, make_host: Callable[[], FakeHost], place: Path, url: str
) -> None:
    leader, host = controllers.open(), make_host()
    join(leader, host)
    second = Settings(data_dir=place / "second", database=url)
    with pytest.raises(FinalError, match=r"another controller leads, .*: stop it first"):
        open_controller(second, after_restore=True)
    term = leader.leadership.term
    leader.close()
    host.hide()
    with pytest.raises(FinalError, match="no node answers"):
        open_controller(second, after_restore=True)
    host.open()
    restored = open_controller(second, after_restore=True)
    try:
        leads(restored)
        assert restored.leadership.term == term + 1
        restored.machines.add(machine_spec(id="web"))
        assert settled(restored, "web").state is State.RUNNING
        assert [node.reason for node in restored.nodes.list()] == [""]
    finally:
        restored.close()


@pytest.mark.parametrize("given", ["same directory", "same database"])
def test_a_second_controller_on_sqlite_is_refused_and_told_by_whom(place: Path, given: str) -> None:
    database = "" if given == "same directory" else f"sqlite:///{place / 'cloud.db'}"
    first = ControllerProcess(place / "a", database)
    try:
        first.answers()
        if database:
            (place / "link.db").symlink_to(place / "cloud.db")
            second = ControllerProcess(place / "b", f"sqlite:///{place / 'link.db'}")
        else:
            second = ControllerProcess(place / "a", "")
        assert second.wait() == 1
        what = place / ("cloud.db" if database else "a")
        assert f"another controller (pid {first.pid}) works on {what}" in second.words()
        assert first.leads()
    finally:
        first.end()
