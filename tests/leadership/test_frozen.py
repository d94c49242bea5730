"""The leader is frozen in the middle of its work, another leads, it thaws: nothing that it had begun has any effect."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.iaas.clouds import FakeHost, eventually, machine_spec
from tests.leadership.pairs import Controllers, join, leads, settled
from tests.leadership.processes import ControllerProcess

from garbi.base.errors import StaleOrder
from garbi.hyper_api.assignment import Assignment
from garbi.hyper_api.vocabulary import State
from garbi.iaas.model.event import Event
from garbi.iaas.nodes import NodeClients

NUMBER = 12


@pytest.fixture
def slow_host(place: Path) -> Iterator[FakeHost]:
    """A host whose machines take a while to be made, so that there is always something under way."""
    host = FakeHost(place, "slow", {"add_delay_s": "0.3", "start_delay_s": "0.3"})
    yield host
    host.stop()


def test_a_leader_that_was_frozen_notices_that_another_leads_and_follows(
    controllers: Controllers, slow_host: FakeHost, place: Path, url: str
) -> None:
    old = ControllerProcess(place / "old", url)
    try:
        old.answers()
        assert old.leads()
        new = controllers.open()
        assert not new.leadership.leads
        join(new, slow_host)
        for number in range(NUMBER):
            new.machines.add(machine_spec(id=f"m{number}"))
        eventually("the old one works", lambda: slow_host.running() != [])
        old.freeze()
        leads(new)
        for number in range(NUMBER):
            assert settled(new, f"m{number}").state is State.RUNNING
        new.machines.remove("m0")
        eventually("m0 gone", lambda: "m0" not in [machine.id for machine in new.machines.list()])
        newest = new.events.last_seq()
        old.thaw()
        eventually("the old one follows", lambda: old.leads() is False, old.words)
        old.client.machines.add({"image": "any", "type": "fake", "id": "later", "mem": 16}, wait_s=60)
        assert slow_host.running() == sorted(["later", *(f"m{number}" for number in range(1, NUMBER))])
        assert {machine.power_ons for machine in slow_host.world.machines()} == {1}
        assert about_others(new.events.since(newest, 1000)) == []
        assert new.leadership.leads
        assert new.audit() == old.client.audit() == []
    finally:
        old.end()


def about_others(events: list[Event]) -> list[Event]:
    """What was written of machines, but for the one that was added last."""
    return [event for event in events if event.subject == "machine" and event.id != "later"]


def test_orders_of_an_earlier_leader_are_refused_by_nodes(
    controllers: Controllers, make_host: Callable[[], FakeHost], monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Assignment] = []
    first, second = controllers.open(), controllers.open()
    host = make_host()
    order = NodeClients.assignment

    def noted(clients: NodeClients, *arguments: object) -> Assignment | None:
        assignment = order(clients, *arguments)  # type: ignore[arg-type]
        given.append(assignment) if assignment is not None else None
        return assignment

    monkeypatch.setattr(NodeClients, "assignment", noted)
    join(first, host)
    first.machines.add(machine_spec(id="web"))
    settled(first, "web")
    early = given[-1]
    assert (early.term, early.holder) == (first.leadership.term, first.leadership.holder)
    first.close()
    leads(second)
    second.machines.add(machine_spec(id="b"))
    settled(second, "b")
    assert given[-1].term == early.term + 1
    with pytest.raises(StaleOrder):
        host.client.machines.remove("web", assignment=early)
    with pytest.raises(StaleOrder):
        host.client.machines.wish("web", "stopped", assignment=early)
    with pytest.raises(StaleOrder):
        host.client.machines.add({"image": "any", "type": "fake", "id": "late", "mem": 16}, assignment=early)
    assert host.running() == ["b", "web"]


def test_who_waits_at_a_follower_hears_how_it_goes_on_when_the_leader_changes(
    controllers: Controllers, slow_host: FakeHost
) -> None:
    first, second, third = controllers.open(), controllers.open(), controllers.open()
    join(second, slow_host)
    heard: list[int] = []
    newest = third.events.last_seq()
    third.events.subscribe(lambda event: heard.append(event.seq) if event.seq > newest else None)
    found: list[State] = []

    def wait(number: int) -> None:
        found.append(settled(third, f"m{number}").state)

    for number in range(NUMBER):
        third.machines.add(machine_spec(id=f"m{number}"))
    waiters = [threading.Thread(target=wait, args=(number,)) for number in range(NUMBER)]
    for waiter in waiters:
        waiter.start()
    eventually("it has begun", lambda: slow_host.running() != [])
    first.close()
    for waiter in waiters:
        waiter.join()
    assert found == [State.RUNNING] * NUMBER
    everything = [event.seq for event in third.events.since(newest, 10_000)]
    eventually("all heard", lambda: len(heard) >= len(everything), lambda: (heard, everything))
    assert sorted(heard) == everything
    assert second.leadership.leads is not third.leadership.leads
    assert second.audit() == []
