"""The lock of a data directory is had also where its disk takes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from garbi.base.errors import FinalError
from garbi.storage.lock import FileLock


def test_a_lock_is_taken_where_nobody_can_write_down_who_has_it() -> None:
    FileLock(Path("/dev/full"), Path("/"), "agent").release()


def test_a_lock_that_cannot_be_opened_is_told_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(FinalError, match=r"the lock /.*/lock cannot be taken: Not a directory"):
        FileLock(Path("/dev/null/lock"), tmp_path, "agent")
