"""The files of leases where a disk, or memory, is full: the watchdog sees a renewal all the same, or the controller an error."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from tests.leases.words import CONTROLLER, armed

from garbi.base.errors import NoSpace
from garbi.hyper.leases.files import LeaseFiles
from garbi.hyper.settings import runtime_of

LATER = replace(armed(100.0), renewed=105.0)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A data directory on a file system of the test's own."""
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)], check=True)
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)
    shutil.rmtree(runtime_of(place), ignore_errors=True)


def fill(place: Path) -> None:
    with suppress(OSError), (place / "much").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


@pytest.mark.root
def test_a_lease_is_renewed_on_a_disk_that_is_full(small: Path) -> None:
    files = LeaseFiles(small, runtime_of(small))
    files.write(armed(100.0))
    before = files.lease_sign(CONTROLLER)
    fill(small)
    files.write(LATER)
    assert files.read(CONTROLLER) == LATER
    assert files.lease_sign(CONTROLLER) != before
    (small / "much").unlink()
    last = replace(LATER, renewed=106.0)
    files.write(last)
    assert files.read(CONTROLLER) == last


@pytest.mark.root
def test_where_memory_is_full_a_renewal_fails_and_the_former_lease_counts(small: Path) -> None:
    files = LeaseFiles(small / "data", small / "run")
    files.write(armed(100.0))
    fill(small)
    with (small / "much").open("r+b") as file:
        file.truncate(os.stat(small / "much").st_size - 8192)
    with pytest.raises(NoSpace):
        files.write(replace(LATER, peers=tuple(f"192.0.2.{number}:8081" for number in range(1000))))
    assert files.read(CONTROLLER) == armed(100.0)
    assert files.controllers() == [CONTROLLER]


def test_what_the_disk_says_is_taken_into_memory_of_a_new_boot(tmp_path: Path) -> None:
    before = LeaseFiles(tmp_path / "data", tmp_path / "boot-1")
    (tmp_path / "data").mkdir()
    before.write(armed(100.0))
    before.fence(CONTROLLER, 3)
    after = LeaseFiles(tmp_path / "data", tmp_path / "boot-2")
    after.take_up()
    assert (after.fenced(CONTROLLER), after.read(CONTROLLER)) == (3, None)
    assert after.controllers() == [CONTROLLER]


def test_the_lease_that_an_earlier_version_wrote_to_the_disk_is_taken_up_but_not_over_a_later_one(
    tmp_path: Path,
) -> None:
    LeaseFiles(tmp_path / "data", tmp_path / "data" / "leases").write(armed(100.0))
    files = LeaseFiles(tmp_path / "data", tmp_path / "run")
    files.take_up()
    assert files.read(CONTROLLER) == armed(100.0)
    files.write(LATER)
    files.take_up()
    assert files.read(CONTROLLER) == LATER
