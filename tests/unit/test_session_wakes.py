"""What ends the waits for a server: it is one file more for each that waits, and none once nobody does."""

from __future__ import annotations

import gc

from tests.leftovers import open_files

from garbi.base.clock import SystemClock
from garbi.storage.session import Wake
from garbi.storage.session_lock import SessionLock


def pipes() -> int:
    return sum(number for name, number in open_files().items() if name.startswith("pipe:"))


def test_a_lock_that_nobody_has_any_more_leaves_no_file_open() -> None:
    gc.collect()
    before = pipes()
    locks = [SessionLock("postgresql://nobody.invalid/none", number, SystemClock()) for number in range(5)]
    assert pipes() == before + 10
    locks.clear()
    gc.collect()
    assert pipes() == before


def test_a_wake_that_others_may_still_call_stays() -> None:
    wake = Wake()
    gc.collect()
    wake()
    wake.clear()
