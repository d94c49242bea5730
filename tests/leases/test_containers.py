"""Leases of real containers, on an engine of the test's own that is frozen while their lease ends."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest
from tests.host.docker_archives import RUN_UNTIL_ASKED, shell_image
from tests.host.docker_engines import OwnEngine, own_engine
from tests.leases.processes import ORDER, Processes, arm, machine, processes, renew
from tests.leases.words import eventually

from garbi.base.errors import DriverUnavailable
from garbi.hyper.drivers.docker.containers import Marks
from garbi.hyper.drivers.docker.notes import Notes
from garbi.hyper.drivers.docker.processes import ContainerProcesses

pytestmark = [pytest.mark.docker, pytest.mark.root]

FOREIGN = f"garbi-test-{secrets.token_hex(4)}"


@pytest.fixture(scope="module")
def engine() -> Iterator[OwnEngine]:
    with own_engine() as engine:
        yield engine


@pytest.fixture
def running(engine: OwnEngine, data_dir: Path) -> Iterator[Processes]:
    with processes(data_dir, {"GARBI_DRIVER_DOCKER_HOST": engine.host}) as running:
        yield running


def run_containers(running: Processes, engine: OwnEngine, ttl_s: float, directory: Path) -> dict[str, int]:
    """Containers of each kind under a lease, one of them paused, and an agent that was killed: their processes by name."""
    agent, client = running.serve()
    content = shell_image(directory / "image.tar", RUN_UNTIL_ASKED).path.read_bytes()
    client.images.add("shell", "docker", [content], len(content))
    renew(client)
    for name, policy in (("moves", "recreate"), ("paused", "recreate"), ("stays", "stay")):
        client.machines.add({**machine(name, policy), "type": "docker", "image": "shell", "mem": 64}, assignment=ORDER)
    client.machines.add({"id": "local", "image": "shell", "mem": 64, "on_node_failure": "recreate"})
    client.machines.wish("paused", "paused", assignment=ORDER)
    image = engine.docker("image", "ls", "-q").split()[0]
    engine.docker("run", "-d", "--name", FOREIGN, "--label", "garbi.controller=" + ORDER.controller, image)
    pids = {name: _pid(engine, f"label=garbi.machine={name}") for name in ("moves", "paused", "stays", "local")}
    if ttl_s:
        arm(client, ttl_s)
    agent.kill()
    agent.wait()
    return pids | {"foreign": _pid(engine, f"name={FOREIGN}")}


def _pid(engine: OwnEngine, what: str) -> int:
    container = engine.docker("ps", "-q", "--filter", what)
    return int(engine.inspect(container)["State"]["Pid"])


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("engine_is", ["alive", "frozen"])
def test_a_watchdog_ends_the_containers_of_a_dead_agent_and_no_others(
    running: Processes, engine: OwnEngine, tmp_path: Path, engine_is: str
) -> None:
    running.watch()
    try:
        pids = run_containers(running, engine, 10.0, tmp_path)
        frozen: AbstractContextManager[None] = engine.frozen() if engine_is == "frozen" else nullcontext()
        with frozen:
            eventually("they end", lambda: not lives(pids["moves"]) and not lives(pids["paused"]))
            assert [name for name, pid in pids.items() if lives(pid)] == ["stays", "local", "foreign"]
        eventually(
            "the engine knows",
            lambda: not engine.docker("ps", "-q", "--filter", "label=garbi.machine=moves"),
        )
        _, client = running.serve()
        eventually("it is held", lambda: client.machines.get("moves")["held"])
        assert [name for name, pid in pids.items() if lives(pid)] == ["stays", "local", "foreign"]
    finally:
        clear(engine)


def test_a_fence_ends_containers_while_the_engine_is_frozen(
    running: Processes, engine: OwnEngine, tmp_path: Path
) -> None:
    try:
        pids = run_containers(running, engine, 0, tmp_path)
        with engine.frozen():
            status, report = running.fence()
        assert (status, report["stopped"], report["running"]) == (0, ["moves", "paused"], [])
        assert report["left"] == ["stays"]
        assert [name for name, pid in pids.items() if lives(pid)] == ["stays", "local", "foreign"]
    finally:
        clear(engine)


def test_where_a_container_is_not_known_nothing_is_said_of_its_processes(tmp_path: Path) -> None:
    marks = Marks(secrets.token_hex(16))
    processes_of = ContainerProcesses("unix:///nowhere.sock", marks, Notes(tmp_path / "containers"))
    with pytest.raises(DriverUnavailable):
        processes_of.find("web")
    processes_of.notes.write("web", "0" * 64)
    assert processes_of.find("web") == []
    processes_of.notes.forget("web")
    with pytest.raises(DriverUnavailable):
        processes_of.find("web")
    elsewhere = ContainerProcesses("tcp://192.0.2.1:2375", marks, Notes(tmp_path / "containers"))
    elsewhere.notes.write("web", "0" * 64)
    with pytest.raises(DriverUnavailable, match="another host"):
        elsewhere.find("web")


def clear(engine: OwnEngine) -> None:
    for container in engine.docker("ps", "-aq").split():
        engine.docker("rm", "-f", "-v", container, check=False)
