"""Services for tests, each with a data directory of its own."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.data_loss.services import Service, service


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that other users may pass through, as a hypervisor must."""
    path = Path(tempfile.mkdtemp(prefix="garbi-loss-"))
    path.chmod(0o711)
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
