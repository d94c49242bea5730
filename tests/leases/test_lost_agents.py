"""Containers of an agent whose data directory was emptied, on an engine of the test's own: a fence finds them there."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.host.docker_engines import OwnEngine, own_engine
from tests.leases.processes import Processes, processes
from tests.leases.test_containers import clear, lives, run_containers

pytestmark = [pytest.mark.docker, pytest.mark.root]


@pytest.fixture
def engine() -> Iterator[OwnEngine]:
    with own_engine() as engine:
        yield engine


@pytest.fixture
def running(engine: OwnEngine, data_dir: Path) -> Iterator[Processes]:
    with processes(data_dir, {"GARBI_DRIVER_DOCKER_HOST": engine.host}) as running:
        yield running
        clear(engine)


def test_a_fence_ends_the_containers_of_the_agent_before_and_says_that_it_speaks_for_another(
    running: Processes, engine: OwnEngine, tmp_path: Path
) -> None:
    pids = run_containers(running, engine, 0, tmp_path)
    first = engine.inspect(engine.docker("ps", "-q", "--filter", "label=garbi.machine=moves"))["Config"]["Labels"]
    for each in running.data_dir.iterdir():
        shutil.rmtree(each) if each.is_dir() else each.unlink()
    _, client = running.serve()
    with engine.frozen():
        status, report = running.fence()
        assert [name for name, pid in pids.items() if lives(pid)] == ["stays", "local", "foreign"]
    assert (status, report["stopped"], report["left"]) == (0, ["moves", "paused"], ["stays"])
    assert report["cluster_id"] == client.host()["cluster_id"] != first["garbi.cluster"]
    status, report = running.fence()
    assert (status, report["earlier"]) == (0, {first["garbi.cluster"]: ["moves", "paused"]})
    named = {each["subject"] for each in client.audit()}
    assert {"moves", "paused", "stays", "local"} <= named
    assert [name for name, pid in pids.items() if lives(pid)] == ["stays", "local", "foreign"]
