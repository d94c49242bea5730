"""A cloud of its own for each test: a controller, and as many hosts with fake machines as are asked for."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.iaas.clouds import Cloud, FakeHost, cloud_at
from tests.places import new_place


@pytest.fixture
def place() -> Iterator[Path]:
    path = new_place("garbi-iaas-")
    yield path
    shutil.rmtree(path)


@pytest.fixture
def cloud(place: Path) -> Iterator[Cloud]:
    """A controller without nodes."""
    with cloud_at(place) as made:
        yield made


@pytest.fixture
def fake_nodes(cloud: Cloud) -> Callable[..., list[FakeHost]]:
    """Makes as many nodes, with fake machines, as are asked for; `fake` are settings of their driver."""

    def make(count: int, fake: dict[str, str] | None = None, mem: int = 4096, simulated: bool = True) -> list[FakeHost]:
        hosts = [cloud.host(fake, mem, simulated) for _ in range(count)]
        for host in hosts:
            cloud.join(host)
        return hosts

    return make
