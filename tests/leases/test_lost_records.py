"""A fence, a watchdog and an audit where the agent's database is lost, older or unreadable: what runs is found at the engines."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.leases.conftest import LeasedHost, set_boot
from tests.leases.processes import ORDER, Processes, machine, processes, renew
from tests.leases.words import BOOT, CONTROLLER, ForwardClock, OtherNodes, eventually

from garbi.hyper.drivers.fake import FakeMachine, FakeWorld
from garbi.hyper.drivers.protocol import Condition
from garbi.hyper.settings import Settings
from garbi.hyper.watchdog.opening import open_fence

OTHER = "d1" * 16


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    """Where the pretended daemon is, whatever becomes of the agent's directory."""
    place = tmp_path / "engine"
    place.mkdir()
    return place


@pytest.fixture
def world(engine: Path) -> FakeWorld:
    return FakeWorld.at(engine)


@pytest.fixture
def running(data_dir: Path, engine: Path) -> Iterator[Processes]:
    settings = {"GARBI_DRIVER_FAKE_PERSIST": "true", "GARBI_DRIVER_FAKE_ENGINE": str(engine)}
    with processes(data_dir, settings) as running:
        yield running


@pytest.fixture
def host(data_dir: Path, engine: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LeasedHost]:
    """A host whose agent has two machines under a lease and one that stays, in this process."""
    set_boot(monkeypatch, BOOT)
    fake = {"persist": "true", "engine": str(engine)}
    settings = Settings(data_dir=data_dir, drivers={"fake": fake}, mem_limit_mib=4096)
    leased = LeasedHost(settings, ForwardClock(), OtherNodes())
    leased.start_agent()
    leased.renew(None, arm=False)
    for name, policy in (("one", "recreate"), ("two", "recreate"), ("stays", "stay")):
        leased.add(name, policy=policy)
    yield leased
    leased.stop_agent()
    leased.stop_watchdog()


def powered(world: FakeWorld) -> list[str]:
    return sorted(each.id for each in world.machines() if each.powered)


def empty(data_dir: Path) -> None:
    for each in data_dir.iterdir():
        shutil.rmtree(each) if each.is_dir() else each.unlink()


def remove_database(data_dir: Path) -> None:
    for each in data_dir.glob("hyper.db*"):
        each.unlink()


def truncate(data_dir: Path) -> None:
    remove_database(data_dir)
    (data_dir / "hyper.db").touch()


def damage(data_dir: Path) -> None:
    remove_database(data_dir)
    (data_dir / "hyper.db").write_bytes(b"no database at all" * 1000)


LOSSES = {"removed": remove_database, "truncated": truncate, "damaged": damage}


@pytest.mark.parametrize("loss", LOSSES)
def test_a_fence_reads_the_files_where_the_database_is_lost(host: LeasedHost, world: FakeWorld, loss: str) -> None:
    cluster_id = host.living.cluster_id
    host.stop_agent()
    LOSSES[loss](host.settings.data_dir)
    for each in world.machines():  # as an earlier version made them
        world.plant(replace(each, marks={}))
    report = open_fence(host.settings).fence(CONTROLLER, 1)
    assert powered(world) == ["stays"]
    assert (report.stopped, report.left, report.running, report.unseen) == (["one", "two"], ["stays"], [], {})
    assert (report.cluster_id, report.earlier) == (cluster_id, {})


@pytest.mark.parametrize("loss", ["emptied", "gone"])
def test_a_fence_ends_what_the_lost_directory_had_and_says_that_it_is_lost(
    host: LeasedHost, world: FakeWorld, loss: str
) -> None:
    cluster_id = host.living.cluster_id
    host.stop_agent()
    {"emptied": empty, "gone": shutil.rmtree}[loss](host.settings.data_dir)
    report = open_fence(host.settings).fence(CONTROLLER, 1)
    assert powered(world) == ["stays"]
    assert (report.stopped, report.left, report.running, report.unseen) == (["one", "two"], ["stays"], [], {})
    assert (report.cluster_id, report.earlier) == ("", {cluster_id: ["one", "two"]})
    again = open_fence(host.settings).fence(CONTROLLER, 1)
    assert (again.stopped, again.earlier) == ([], report.earlier)
    host.settings.data_dir.mkdir(exist_ok=True)


def test_a_fence_beside_an_agent_on_an_empty_database_says_that_it_is_another(
    running: Processes, world: FakeWorld
) -> None:
    agent, client = running.serve()
    renew(client)
    for name, policy in (("one", "recreate"), ("stays", "stay")):
        client.machines.add(machine(name, policy), assignment=ORDER)
    first = client.host()["cluster_id"]
    agent.kill()
    agent.wait()
    empty(running.data_dir)
    _, client = running.serve()
    status, report = running.fence()
    assert (status, powered(world)) == (0, ["stays"])
    assert report["cluster_id"] == client.host()["cluster_id"] != first
    assert (report["stopped"], report["left"], report["earlier"]) == (["one"], ["stays"], {first: ["one"]})
    named = [each for each in client.audit() if each["subject"] in ("one", "stays")]
    assert [each["invariant"] for each in named] == ["I5", "I5"]
    assert all(first[:8] in each["detail"] and "left alone" in each["detail"] for each in named)
    assert powered(world) == ["stays"]


def test_a_machine_that_an_older_database_does_not_have_is_ended_and_one_of_a_later_lease_is_left(
    host: LeasedHost, world: FakeWorld, tmp_path: Path
) -> None:
    cluster_id, data_dir = host.living.cluster_id, host.settings.data_dir
    host.stop_agent()
    shutil.copytree(data_dir, tmp_path / "backup")
    host.start_agent()
    host.add("younger")
    host.add("later")
    host.stop_agent()
    later = world.machine("later")
    world.plant(replace(later, marks={**later.marks, "lease": "2"}))
    shutil.rmtree(data_dir)
    shutil.copytree(tmp_path / "backup", data_dir)
    report = open_fence(host.settings).fence(CONTROLLER, 1)
    assert powered(world) == ["later", "stays"]
    assert (report.cluster_id, report.stopped) == (cluster_id, ["one", "two", "younger"])
    assert (report.left, report.earlier) == (["later", "stays"], {})


def test_a_watchdog_ends_what_the_lost_database_had(host: LeasedHost, world: FakeWorld) -> None:
    host.start_watchdog()
    host.arm()
    host.stop_agent()
    remove_database(host.settings.data_dir)
    host.clock.ahead_s += 60
    assert host.watchdog is not None
    for _ in range(3):
        host.watchdog.tick()
    assert powered(world) == ["stays"]


def test_a_watchdog_whose_directory_is_emptied_ends_the_lease_that_it_knows_and_itself_once_it_is_gone(
    host: LeasedHost, world: FakeWorld
) -> None:
    watchdog = host.start_watchdog()
    host.arm()
    watchdog.tick()
    ending = threading.Event()
    thread = threading.Thread(target=watchdog.run, args=(ending,))
    thread.start()
    try:
        host.stop_agent()
        empty(host.settings.data_dir)
        looks = host.others.asked
        host.clock.ahead_s += 30
        eventually("the other nodes are asked about the lease", lambda: host.others.asked > looks)
        assert powered(world) == ["one", "stays", "two"]
        host.clock.ahead_s += 60
        eventually("they have ended", lambda: powered(world) == ["stays"])
        shutil.rmtree(host.settings.data_dir)
        thread.join(60)
        assert not thread.is_alive()
        host.settings.data_dir.mkdir()
    finally:
        ending.set()
        thread.join()


@pytest.mark.parametrize("what", ["an engine that is silent", "a machine that nothing tells of"])
def test_a_watchdog_that_could_not_end_everything_guards_nothing(
    host: LeasedHost, world: FakeWorld, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setattr("garbi.hyper.watchdog.watchdog.BLIND_S", 0.0)
    watchdog = host.start_watchdog()
    assert host.renew(None).guarded
    unknown = replace(world.machine("one"), key="unknown", id="unknown", cluster_id="e1" * 16, marks={})
    if what == "an engine that is silent":
        world.make_unavailable("it is on strike")
    else:
        world.plant(unknown)
    host.clock.ahead_s += 61
    watchdog.tick()
    assert not host.renew(None).guarded
    world.make_available()
    world.uproot(unknown.key)
    watchdog.tick()
    assert host.renew(None).guarded


def test_machines_of_other_controllers_directories_and_people_are_left_alone(
    host: LeasedHost, world: FakeWorld, tmp_path: Path
) -> None:
    host.add("other", controller=OTHER)
    aside = replace(host.settings, data_dir=tmp_path / "beside")
    beside = LeasedHost(aside, ForwardClock(), OtherNodes())
    beside.start_agent()
    beside.renew(None, arm=False)
    beside.add("neighbour")
    world.plant(FakeMachine("by-hand", condition=Condition.RUNNING, id="by-hand"))
    host.stop_agent()
    empty(host.settings.data_dir)
    try:
        report = open_fence(host.settings).fence(CONTROLLER, 1)
        assert (report.stopped, report.left, report.running) == (["one", "two"], ["stays"], [])
        assert powered(world) == ["by-hand", "neighbour", "other", "stays"]
        assert [each.subject for each in beside.living.audit()] == ["one", "two", "stays", "other"]
    finally:
        beside.stop_agent()


@pytest.mark.parametrize("whose", ["own", "nobody", "neighbour"])
def test_a_machine_without_marks_is_judged_by_its_row_and_without_one_nothing_is_proven(
    host: LeasedHost, world: FakeWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whose: str
) -> None:
    monkeypatch.setattr("garbi.hyper.watchdog.fence.LIMIT_S", 0.1)
    for each in world.machines():  # as an earlier version made them
        world.plant(replace(each, marks={}))
    host.stop_agent()
    if whose == "own":
        report = open_fence(host.settings).fence(CONTROLLER, 1)
        assert (report.stopped, report.running, powered(world)) == (["one", "two"], [], ["stays"])
        return
    if whose == "nobody":
        empty(host.settings.data_dir)
        report = open_fence(host.settings).fence(CONTROLLER, 1)
        assert (report.proven, report.stopped, report.running) == (False, [], ["one", "stays", "two"])
        assert "no database says what it is" in report.why["one"]
        assert powered(world) == ["one", "stays", "two"]
        return
    host.start_agent()  # theirs is an agent that runs, from another directory
    other = replace(host.settings, data_dir=tmp_path / "other")
    beside = LeasedHost(other, ForwardClock(), OtherNodes())
    beside.start_agent()
    try:
        report = open_fence(other).fence(CONTROLLER, 1)
        assert (report.proven, report.stopped, report.running, report.left) == (True, [], [], [])
        assert powered(world) == ["one", "stays", "two"]
    finally:
        beside.stop_agent()


def test_an_engine_that_cannot_be_looked_through_proves_nothing(
    host: LeasedHost, world: FakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("garbi.hyper.watchdog.fence.LIMIT_S", 0.1)
    host.stop_agent()
    world.make_unavailable("it is on strike")
    report = open_fence(host.settings).fence(CONTROLLER, 1)
    assert (report.proven, report.stopped, report.running, list(report.unseen)) == (False, [], ["one", "two"], ["fake"])
    assert report.unseen["fake"].startswith("it is on strike; and without it: ")
    world.make_available()
    assert open_fence(host.settings).fence(CONTROLLER, 1).proven
