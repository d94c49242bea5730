"""What is true of a disk from the removal of its machine until its own end."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from tests.conformance.bench import eventually
from tests.kept.conftest import PATIENCE_S, SPEC, Open, TurnableClock, kept_names, made, removed

from garbi.base.errors import Busy, ImageInUse, InvalidField, NotFound
from garbi.hyper.agent import Agent
from garbi.hyper.drivers.fake import FakeWorld
from garbi.hyper.drivers.protocol import DiskKeeper
from garbi.hyper.model.event import EventKind
from garbi.hyper.model.image import ImageType
from garbi.hyper.model.kept import epoch_of
from garbi.hyper.model.machine import PublishedPort, State
from garbi.hyper.purge import purge
from garbi.hyper.store import kept
from garbi.hyper.store.images import ImageTable

DAY_S = 86400


def test_id_port_and_memory_are_free_at_once_and_the_disk_is_kept(
    agent: Agent, world: FakeWorld, free_port: int
) -> None:
    whole = replace(SPEC, mem=4096, ports=(PublishedPort(free_port, 80),), labels={"garbi.epoch": "3"})
    made(agent, whole)
    removed(agent, "web", DAY_S)
    made(agent, whole)
    (record,) = agent.kept.list()
    assert (record.name, record.machine_id, record.type, record.epoch) == ("web.3", "web", "fake", 3)
    assert (record.keep_s, record.place) == (DAY_S, world.kept()[0].key)
    assert agent.audit() == []


def test_a_machine_that_runs_is_powered_off_before_its_disk_is_kept(agent: Agent, world: FakeWorld) -> None:
    made(agent)
    removed(agent, "web", DAY_S)
    assert not world.kept()[0].powered


def test_every_disk_of_a_machine_is_kept_under_a_name_of_its_own(agent: Agent) -> None:
    for epoch in ("1", "2", "2", "", "none"):
        made(agent, replace(SPEC, labels={"garbi.epoch": epoch}))
        removed(agent, "web", DAY_S)
    assert kept_names(agent) == ["web.0", "web.0-2", "web.1", "web.2", "web.2-2"]
    assert agent.audit() == []


def test_the_event_of_the_removal_says_what_is_kept(agent: Agent) -> None:
    made(agent)
    removed(agent, "web", DAY_S)
    made(agent)
    removed(agent, "web", 0)
    reasons = [event.reason for event in agent.events.since(0, 100) if event.kind is EventKind.REMOVED]
    assert reasons == [f"its disk is kept as web.0 for {DAY_S} s", ""]


def test_a_disk_goes_when_its_time_is_over_and_no_jump_of_the_clock_makes_it_go(
    agent: Agent, world: FakeWorld, clock: TurnableClock
) -> None:
    made(agent)
    removed(agent, "web", DAY_S)
    clock.shown = timedelta(days=3650)
    clock.passed_s += DAY_S - 3600
    eventually("it grows older", lambda: agent.kept.get("web.0").age_s >= DAY_S - 3600, PATIENCE_S)
    assert 0 < agent.kept.get("web.0").left_s <= 3600
    clock.shown = timedelta(days=-3650)
    clock.passed_s += 3600
    eventually("it goes", lambda: agent.kept.list() == [], PATIENCE_S)
    assert world.kept() == []


def test_age_counts_on_after_a_restart_of_the_agent(agent: Agent, opener: Open, clock: TurnableClock) -> None:
    made(agent)
    removed(agent, "web", DAY_S)
    clock.passed_s += 1000
    eventually("it grows older", lambda: agent.kept.get("web.0").age_s >= 1000, PATIENCE_S)
    agent.close()
    clock.passed_s += 10 * DAY_S  # while no agent runs, nothing grows older
    again = opener()
    assert again.kept.get("web.0").age_s < 2000
    clock.passed_s += 1000
    eventually("it grows older", lambda: again.kept.get("web.0").age_s >= 2000, PATIENCE_S)
    assert kept_names(again) == ["web.0"]


def test_a_disk_is_deleted_before_its_time_when_asked(agent: Agent, world: FakeWorld) -> None:
    made(agent)
    removed(agent, "web", DAY_S)
    agent.kept.remove("web.0")
    assert (agent.kept.list(), world.kept()) == ([], [])
    for verb in (agent.kept.remove, agent.kept.get):
        with pytest.raises(NotFound, match=r"no disk is kept as web\.0"):
            verb("web.0")


def test_a_disk_that_is_due_while_its_daemon_is_away_goes_when_it_is_back(
    agent: Agent, world: FakeWorld, clock: TurnableClock
) -> None:
    made(agent)
    removed(agent, "web", 60)
    world.make_unavailable()
    clock.passed_s += 60
    eventually("it is due", lambda: agent.kept.get("web.0").left_s == 0, PATIENCE_S)
    world.make_available()
    eventually("it goes", lambda: agent.kept.list() == [], PATIENCE_S)
    assert world.kept() == []


@pytest.mark.parametrize("keep_s", [-1, 10 * 365 * DAY_S + 1, True, "1 day"])
def test_how_long_is_a_number_of_seconds_or_nothing_happens(agent: Agent, keep_s: int) -> None:
    made(agent)
    with pytest.raises(InvalidField, match="keep_s"):
        agent.machines.remove("web", keep_s)
    assert agent.machines.get("web").state is State.RUNNING


def test_a_full_disk_says_so_and_loses_nothing_and_a_removal_without_keeping_works(
    agent: Agent, world: FakeWorld
) -> None:
    made(agent)
    world.fail_next("keep_disk", "no-space", times=None)
    agent.machines.remove("web", DAY_S)
    eventually("it says why", lambda: "keep_disk fails" in agent.machines.get("web").reason, PATIENCE_S)
    assert world.machine("web").id == "web"
    assert agent.kept.list() == []
    removed(agent, "web", 0)
    assert (world.machines(), world.kept(), agent.audit()) == ([], [], [])


def test_keeping_goes_on_by_itself_when_there_is_room_again(agent: Agent, world: FakeWorld) -> None:
    made(agent)
    world.fail_next("keep_disk", "no-space", times=2)
    removed(agent, "web", DAY_S)
    assert kept_names(agent) == ["web.0"]


def test_while_another_disk_of_the_machine_is_on_its_way_none_of_them_is_dropped(
    agent: Agent, world: FakeWorld
) -> None:
    made(agent)
    removed(agent, "web", DAY_S)
    made(agent)
    world.fail_next("keep_disk", "no-space", times=None)
    agent.machines.remove("web", DAY_S)
    eventually("it says why", lambda: "keep_disk fails" in agent.machines.get("web").reason, PATIENCE_S)
    with pytest.raises(Busy, match="web"):
        agent.kept.remove("web.0")
    world.fail_next("keep_disk", "no-space", times=0)
    eventually("both are kept", lambda: kept_names(agent) == ["web.0", "web.0-2"], PATIENCE_S)
    agent.kept.remove("web.0")


def test_a_disk_without_a_row_is_found_and_adopted(agent: Agent, opener: Open, world: FakeWorld) -> None:
    made(agent)
    removed(agent, "web", DAY_S)
    before = agent.kept.get("web.0")
    forget(agent, "web.0")
    eventually("it is adopted", lambda: kept_names(agent) == ["web.0"], PATIENCE_S)
    adopted = agent.kept.get("web.0")
    assert (adopted.machine_id, adopted.type, adopted.place) == (before.machine_id, before.type, before.place)
    assert adopted.keep_s == 7 * DAY_S
    assert agent.audit() == []


def forget(agent: Agent, name: str) -> None:
    """Lose the row, as a database that was restored from an older copy would."""
    with agent._parts.database.write() as transaction:
        kept.delete_kept(transaction, name)


def test_an_audit_finds_a_row_whose_disk_is_gone_and_the_row_can_be_removed(agent: Agent) -> None:
    made(agent)
    removed(agent, "web", DAY_S)
    driver = agent.drivers.get("fake")
    assert isinstance(driver, DiskKeeper)
    driver.drop_kept("web.0")  # as an administrator would, behind the agent's back
    (found,) = agent.audit()
    assert (found.invariant, found.subject) == ("I5", "web.0")
    assert "absent" in found.detail
    agent.kept.remove("web.0")
    assert agent.audit() == []


def test_the_image_below_a_kept_disk_stays_and_says_so(agent: Agent) -> None:
    agent.images.add("disk", ImageType.RAW, [b"\0" * 4096])
    made(agent, replace(SPEC, image="disk"))
    removed(agent, "web", DAY_S)
    with pytest.raises(ImageInUse, match=r"kept disks web\.0; `hyper kept rm` deletes one"):
        agent.images.remove("disk")
    agent.images.add("same", ImageType.RAW, [b"\0" * 4096])
    agent.images.remove("disk")  # the content has another name
    with pytest.raises(ImageInUse):
        agent.images.remove("same")
    agent.kept.remove("web.0")
    agent.images.remove("same")


def test_a_cached_image_below_a_kept_disk_is_not_given_up(agent: Agent) -> None:
    for name in ("below", "free"):
        agent.images.add(name, ImageType.RAW, [name.encode() * 1024], cached=True)
    made(agent, replace(SPEC, image="below"))
    removed(agent, "web", DAY_S)
    assert [image.name for image in ImageTable(agent._parts.database).evictable()] == ["free"]


def test_a_full_copy_needs_no_image_below_it(agent: Agent) -> None:
    agent.images.add("disk", ImageType.RAW, [b"\0" * 4096])
    made(agent, replace(SPEC, image="disk", full_copy=True))
    removed(agent, "web", DAY_S)
    agent.images.remove("disk")


def test_purge_takes_kept_disks_away(agent: Agent, data_dir: Path) -> None:
    made(agent)
    removed(agent, "web", DAY_S)
    agent.close()
    said: list[str] = []
    purge(agent.settings, said.append)
    assert "fake kept disk web.0" in said
    assert not data_dir.exists()
    data_dir.mkdir()


@pytest.mark.parametrize(("label", "epoch"), [("12", 12), ("", 0), ("-1", 0), ("1.5", 0), ("٣", 0), ("9" * 16, 0)])
def test_what_is_no_epoch_counts_as_none(label: str, epoch: int) -> None:
    assert epoch_of({"garbi.epoch": label}) == epoch
