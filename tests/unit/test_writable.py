"""Whether a disk can be written is found out by a thread of its own: nobody who only asks waits for a disk that hangs."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from tests.leases.words import eventually

from garbi.storage import writable
from garbi.storage.writable import FILE, Writable


def test_who_asks_whether_a_disk_can_be_written_does_not_wait_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writable, "AGAIN_S", 0.0)
    os.mkfifo(tmp_path / FILE)  # to open it takes as long as nobody reads: a disk that hangs
    disk = Writable(tmp_path)
    disk.note_failure("disk I/O error")
    said: list[str] = []
    asking = threading.Thread(target=lambda: said.append(disk.failure()), daemon=True)
    asking.start()
    asking.join(20.0)
    assert said == ["disk I/O error"]
    reader = os.open(tmp_path / FILE, os.O_RDONLY | os.O_NONBLOCK)  # it answers again
    try:
        eventually("it is good by itself", lambda: not disk.failure())
    finally:
        os.close(reader)


def test_a_disk_that_fails_again_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writable, "AGAIN_S", 0.02)
    disk = Writable(tmp_path)
    for _ in range(3):
        disk.note_failure("disk I/O error")
        eventually("it is good by itself", lambda: not disk.failure())
