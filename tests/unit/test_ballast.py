"""The ballast: there while the disk has room, gone when a write needs it, and nothing new is taken meanwhile."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from garbi.base.errors import NoSpace
from garbi.storage import ballast
from garbi.storage.ballast import Ballast


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[int]:
    """The bytes left on the disk, to be changed by the test."""
    left = [1 << 30]
    real = os.statvfs(tmp_path)

    def statvfs(path: Path) -> os.statvfs_result:
        fields = list(real)
        fields[1], fields[4] = 1, left[0]
        return os.statvfs_result(fields)

    monkeypatch.setattr("garbi.storage.ballast.os.statvfs", statvfs)
    return left


def test_ballast_is_taken_in_given_up_on_a_full_disk_and_taken_in_again(tmp_path: Path, disk: list[int]) -> None:
    kept, file = Ballast(tmp_path), tmp_path / "ballast"
    kept.balance()
    assert file.stat().st_blocks * 512 >= ballast.SIZE
    kept.require_room()
    disk[0] = ballast.NEEDED - 1
    kept.balance()
    assert not file.exists()
    disk[0] = ballast.SIZE + ballast.NEEDED  # what was given up, and a little: it must not go to and fro
    kept.balance()
    assert not file.exists()
    with pytest.raises(NoSpace, match="full"):
        kept.require_room()
    disk[0] = ballast.SIZE + 2 * ballast.NEEDED
    kept.require_room()
    assert file.exists()


def test_ballast_that_a_crash_left_in_part_is_made_whole(tmp_path: Path, disk: list[int]) -> None:
    (tmp_path / "ballast").write_bytes(b"")
    Ballast(tmp_path).balance()
    assert (tmp_path / "ballast").stat().st_size == ballast.SIZE


def test_ballast_that_does_not_fit_after_all_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, disk: list[int]
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("garbi.storage.ballast.os.posix_fallocate", full)
    Ballast(tmp_path).balance()
    assert list(tmp_path.iterdir()) == []
