"""Real containers go on in the same processes while their agent loses its database and adopts them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.api.test_serve import url_of
from tests.data_loss.services import lose
from tests.host.docker_engines import OwnEngine, own_engine
from tests.leases.processes import LIMIT_S, ORDER, Processes, processes, renew
from tests.leases.test_containers import clear, lives, run_containers

from garbi.hyper.main import DATABASE

pytestmark = [pytest.mark.docker, pytest.mark.root]


@pytest.fixture
def engine() -> Iterator[OwnEngine]:
    with own_engine() as engine:
        yield engine


@pytest.fixture
def running(engine: OwnEngine) -> Iterator[Processes]:
    with tempfile.TemporaryDirectory(prefix="garbi-loss-") as place:
        Path(place).chmod(0o711)
        with processes(Path(place), {"GARBI_DRIVER_DOCKER_HOST": engine.host}) as running:
            yield running
            clear(engine)


def test_containers_keep_their_processes(running: Processes, engine: OwnEngine, tmp_path: Path) -> None:
    pids = run_containers(running, engine, 0, tmp_path)
    lose(running.data_dir / DATABASE)
    _, words = running.start("serve", "--port", "0").communicate(timeout=LIMIT_S)
    assert "`hyper serve --adopt`" in words
    running.url = url_of(running.start("serve", "--port", "0", "--adopt"))
    client = running.client()
    found = {each["id"]: each["state"] for each in client.machines.list()}
    assert found == {"moves": "running", "paused": "paused", "stays": "running", "local": "running"}
    assert client.images.get("shell")["state"] == "active"
    assert client.audit() == []
    assert [name for name, pid in pids.items() if not lives(pid)] == []
    renew(client)
    client.machines.wish("paused", "running", LIMIT_S, ORDER)
    assert client.machines.get("paused")["state"] == "running"
    assert [name for name, pid in pids.items() if not lives(pid)] == []
    client.machines.remove("local", LIMIT_S)
    assert not lives(pids["local"])
