"""Agents on the real daemons: the images are built once, and each module shares an agent."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from tests.host.agent.host_agent import HostAgent, TinyImages, build_images, host_agent, open_directory


@pytest.fixture(scope="session")
def images() -> Iterator[TinyImages]:
    directory = open_directory()
    yield build_images(directory)
    shutil.rmtree(directory)


@pytest.fixture(scope="module")
def host(images: TinyImages) -> Iterator[HostAgent]:
    """An agent that looks at everything only when an event or a user makes it."""
    with host_agent(images) as made:
        yield made
