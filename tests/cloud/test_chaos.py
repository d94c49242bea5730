"""Three real hosts lose, in turns and under load, whatever can be lost; afterwards all is there, and nothing ever ran twice."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .conftest import at_once
from .hosts import Lab
from .scene import NAMES, Scene, check, populate, take
from .storms import storm
from .turns import TURNS

pytestmark = [pytest.mark.root, pytest.mark.docker, pytest.mark.libvirt, pytest.mark.timeout(1800)]

SEED, MINUTES = 7, 3.0


@pytest.fixture(scope="module")
def scene(lab: Lab, packaged_image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    hosts = [lab.add_host(packaged_image) for _ in NAMES]
    at_once(*[lambda h=host: h.wait_for("docker info >/dev/null && virsh -c qemu:///system uri") for host in hosts])  # type: ignore[misc]
    made = Scene(lab, hosts, tmp_path_factory.mktemp("chaos"))
    try:
        populate(made)
        yield made
    finally:
        made.close()


def test_whatever_dies_in_turns_under_load_nothing_is_lost_and_nothing_runs_twice(scene: Scene) -> None:
    take(scene, TURNS)
    check(scene)


def test_three_minutes_of_a_storm_lose_nothing_and_double_nothing(scene: Scene) -> None:
    """The storm of `make storm`, cut short."""
    take(scene, storm(SEED, MINUTES))
    check(scene)
