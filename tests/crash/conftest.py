"""Stages for crash tests: one per driver for all tests of a module."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest
from tests.crash.stage import TYPES, Stage, stage_of

Stages = Callable[[str], Stage]

MARKS = {"docker": [pytest.mark.docker], "libvirt-qemu": [pytest.mark.libvirt, pytest.mark.root]}
DRIVERS = [pytest.param(driver, marks=MARKS.get(driver, [])) for driver in TYPES]
"""Drivers whose machines outlive the agent, each with what its tests need."""


@pytest.fixture(scope="module")
def stages() -> Iterator[Stages]:
    """Gives the stage of a driver, with a machine beside the victim, and machines of others: the same one each time."""
    opened: dict[str, Stage] = {}
    with contextlib.ExitStack() as stack:

        def stage(subject: str) -> Stage:
            if subject not in opened:
                opened[subject] = stack.enter_context(stage_of(subject))
                opened[subject].populate()
            return opened[subject]

        yield stage
