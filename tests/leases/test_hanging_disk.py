"""A disk that hangs, which is worse than one that fails: nobody hears of an error. The lease ends, and its machines with it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.leases.hanging import HANGS, Hang, disk_that_can_hang, frozen, silent
from tests.leases.processes import ORDER, Processes, arm, machine, processes, renew
from tests.leases.words import CONTROLLER, eventually

from garbi.base.errors import StorageFailed
from garbi.base.hanging import PatientDisk
from garbi.hyper.drivers.docker.notes import Notes
from garbi.hyper.drivers.fake import FakeWorld
from garbi.hyper.settings import runtime_of

pytestmark = pytest.mark.root

TTL_S = 10.0
LIMIT_S = 120.0


@pytest.fixture
def hangs(data_dir: Path, tmp_path: Path) -> Iterator[ExitStack]:
    """The data directory is on a disk of its own. What runs there ends after the hang, and before the disk is gone."""
    with disk_that_can_hang(data_dir, tmp_path / "disk") as hangs:
        yield hangs
    (tmp_path / "disk").unlink()


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    """Where the pretended daemon is: on another disk."""
    place = tmp_path / "engine"
    place.mkdir()
    return place


@pytest.fixture
def running(data_dir: Path, engine: Path, hangs: ExitStack) -> Iterator[Processes]:
    settings = {"GARBI_DRIVER_FAKE_PERSIST": "true", "GARBI_DRIVER_FAKE_ENGINE": str(engine)}
    with processes(data_dir, settings) as running, hangs:
        yield running


@pytest.fixture(params=HANGS)
def hang(request: pytest.FixtureRequest) -> Hang:
    return HANGS[request.param]


def scene(running: Processes) -> None:
    """Two machines under an armed lease, one that stays; then the agent is killed."""
    agent, client = running.serve()
    renew(client, ttl_s=TTL_S)
    for name, policy in (("one", "recreate"), ("two", "recreate"), ("stays", "stay")):
        client.machines.add(machine(name, policy), assignment=ORDER)
    arm(client, TTL_S)
    agent.kill()
    agent.wait(LIMIT_S)


def powered(engine: Path) -> list[str]:
    return sorted(each.id for each in FakeWorld.at(engine).machines() if each.powered)


def fence_on_disk(data_dir: Path) -> str:
    file = data_dir / "leases" / f"{CONTROLLER}.fenced"
    return file.read_text().strip() if file.exists() else ""


def test_a_lease_that_ends_while_the_disk_hangs_ends_its_machines(
    running: Processes, engine: Path, hangs: ExitStack, hang: Hang
) -> None:
    running.watch()
    scene(running)
    hangs.enter_context(hang(running.data_dir))
    eventually("they have ended", lambda: powered(engine) == ["stays"])
    hangs.close()
    eventually("it is written down", lambda: fence_on_disk(running.data_dir) == "1")


def test_a_watchdog_that_starts_while_the_disk_hangs_ends_them_too(
    running: Processes, engine: Path, hangs: ExitStack, hang: Hang
) -> None:
    first = running.watch()
    scene(running)
    first.kill()
    first.wait(LIMIT_S)
    hangs.enter_context(hang(running.data_dir))
    running.watch()
    eventually("they have ended", lambda: powered(engine) == ["stays"])


def test_a_watchdog_that_the_disk_keeps_from_dying_is_replaced(running: Processes, hangs: ExitStack) -> None:
    first = running.watch()
    scene(running)
    first.kill()
    first.wait(LIMIT_S)
    hangs.enter_context(frozen(running.data_dir))
    stuck = running.watch()
    eventually("the disk holds one of its threads", lambda: "D" in states_of(stuck.pid))
    stuck.kill()
    eventually("it is dead, and still there", lambda: state_of(Path(f"/proc/{stuck.pid}")) == "Z")
    assert "D" in states_of(stuck.pid)
    another = running.watch()
    lock = runtime_of(running.data_dir) / "watchdog.lock"
    eventually("another guards", lambda: lock.read_text().startswith(f"{another.pid} "))


def state_of(process: Path) -> str:
    return (process / "stat").read_text().rpartition(")")[2].split()[0]


def states_of(pid: int) -> set[str]:
    return {state_of(each) for each in Path(f"/proc/{pid}/task").iterdir()}


def test_renewals_are_answered_while_the_disk_hangs(running: Processes, hangs: ExitStack) -> None:
    running.watch()
    _, client = running.serve()
    last = arm(client, TTL_S)
    hangs.enter_context(frozen(running.data_dir))
    for _ in range(20):
        last = renew(client, last, ttl_s=TTL_S)
        assert (last["armed"], last["active"], last["guarded"]) == (True, True, True)
    hangs.close()


def test_a_fence_ends_machines_while_the_disk_hangs_and_is_no_proof(
    running: Processes, engine: Path, hangs: ExitStack, hang: Hang
) -> None:
    watchdog = running.watch()
    scene(running)
    watchdog.kill()
    watchdog.wait(LIMIT_S)
    hangs.enter_context(hang(running.data_dir))
    fence = running.start("fence", "--controller", CONTROLLER, "--number", "1")
    assert fence.stderr is not None
    next(line for line in fence.stderr if "does not answer" in line)
    assert powered(engine) == ["stays"]
    hangs.close()  # the kernel lets nobody go whom a disk holds
    assert fence.wait(LIMIT_S) == 1
    status, report = running.fence()
    assert (status, report["running"], report["left"]) == (0, [], ["stays"])


def test_which_container_a_machine_is_is_known_while_the_disk_hangs(
    data_dir: Path, tmp_path: Path, hangs: ExitStack
) -> None:
    notes = Notes(data_dir / "containers", tmp_path / "run")
    notes.write("web", "c0" * 32)
    notes.write("gone", "c1" * 32)
    notes.forget("gone")
    hangs.enter_context(silent(data_dir))
    assert Notes(data_dir / "containers", tmp_path / "run").all() == {"web": "c0" * 32}
    notes.adopt("other", "c2" * 32)  # it does not wait
    assert notes.of("other") is None
    hangs.close()
    (tmp_path / "run" / "web").unlink()
    Notes(data_dir / "containers", tmp_path / "run").repeat()
    assert (tmp_path / "run" / "web").read_text() == "c0" * 32


def test_a_disk_that_hangs_is_waited_for_once(data_dir: Path, hangs: ExitStack) -> None:
    hangs.enter_context(silent(data_dir))
    disk = PatientDisk(data_dir)
    for limit_s in (0.1, LIMIT_S):
        with pytest.raises(StorageFailed, match="does not answer"):
            disk.within(limit_s, data_dir.is_dir)
    hangs.close()
    eventually("it answers again", lambda: answers(disk, data_dir))


def answers(disk: PatientDisk, place: Path) -> bool:
    try:
        return disk.within(LIMIT_S, place.is_dir)
    except StorageFailed:
        return False
