"""Services for tests, each with a data directory of its own."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.data_loss.services import Service, service
from tests.places import new_place


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that other users may pass through, as a hypervisor must."""
    path = new_place("garbi-loss-")
    yield path
    shutil.rmtree(path)


@pytest.fixture
def hyper(place: Path) -> Iterator[Service]:
    """An agent that does not run yet."""
    with service("hyper", place / "hyper", GARBI_HYPER_MEM_LIMIT_MIB="4096") as one:
        yield one


@pytest.fixture
def iaas(place: Path) -> Iterator[Service]:
    """A controller that does not run yet."""
    with service("iaas", place / "iaas") as one:
        yield one
