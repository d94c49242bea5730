"""The files of leases where a disk is full or fails: the watchdog sees a renewal all the same, and the newest one counts."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from tests.leases.words import BOOT, CONTROLLER, armed

from garbi.hyper.leases.files import LeaseFiles

LATER = replace(armed(100.0), renewed=105.0)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A data directory on a file system of the test's own."""
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)], check=True)
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)
    shutil.rmtree(LeaseFiles(place)._beside, ignore_errors=True)


def fill(place: Path) -> None:
    with suppress(OSError), (place / "much").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


@pytest.mark.root
def test_a_lease_is_renewed_on_a_disk_that_is_full(small: Path) -> None:
    files = LeaseFiles(small)
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
def test_of_a_file_only_a_part_fits_of_nothing_is_read(small: Path) -> None:
    """A part of a file is none: the former lease is in its place, or the whole new one elsewhere."""
    files = LeaseFiles(small)
    files.write(armed(100.0))
    fill(small)
    with (small / "much").open("r+b") as file:
        file.truncate(os.stat(small / "much").st_size - 8192)
    large = replace(LATER, peers=tuple(f"192.0.2.{number}:8081" for number in range(1000)))
    files.write(large)
    assert files.read(CONTROLLER) == large


@pytest.mark.root
def test_the_time_of_day_does_not_decide_which_lease_is_the_newest(small: Path) -> None:
    files = LeaseFiles(small)
    files.write(armed(100.0))
    fill(small)
    files.write(LATER)
    os.utime(small / "leases" / f"{CONTROLLER}.json", (2**33, 2**33))
    assert files.read(CONTROLLER) == LATER
    assert LATER.boot_id == BOOT
    assert files.controllers() == [CONTROLLER]
