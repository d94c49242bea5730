"""A lease on a disk that cannot be written: whoever controls the host is heard, and what is to be written down is, later."""

from __future__ import annotations

import logging
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.leases.conftest import LeasedHost
from tests.leases.words import CONTROLLER, HOLDER, TTL_S, eventually

from garbi.base.errors import StaleOrder, StorageFailed
from garbi.hyper.leases.files import LeaseFiles
from garbi.hyper.model.machine import Wish
from garbi.hyper.settings import runtime_of
from garbi.hyper.store import leases as table
from garbi.hyper.store.leases import LeaseRow
from garbi.hyper_api.assignment import Assignment
from garbi.storage import writable

pytestmark = pytest.mark.root


@pytest.fixture
def data_dir(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """On a file system of the test's own."""
    monkeypatch.setattr(writable, "AGAIN_S", 0.1)
    with mounted("-t", "tmpfs", "-o", "size=64m,mode=0711", "tmpfs", str(data_dir)):
        yield data_dir
    shutil.rmtree(runtime_of(data_dir), ignore_errors=True)


@contextmanager
def read_only(host: LeasedHost) -> Iterator[None]:
    """The data directory cannot be written, as where the kernel found errors in the file system; then it can again."""
    place, engine = host.settings.data_dir, host.living._parts.database._engine
    with tempfile.TemporaryDirectory(prefix="garbi-read-only-") as beside, mounted("--bind", str(place), beside):
        subprocess.run(["mount", "-o", "remount,ro,bind", beside], check=True)
        with mounted("--bind", beside, str(place)):
            engine.dispose()
            yield
        engine.dispose()


@contextmanager
def mounted(*what: str) -> Iterator[None]:
    subprocess.run(["mount", *what], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", what[-1]], check=True)


def row_of(host: LeasedHost) -> LeaseRow | None:
    database = host.living._parts.database
    database._engine.dispose()  # what SQLite opened through a mount that was read-only stays so
    with database.read() as connection:
        return table.find(connection, CONTROLLER)


def test_another_controller_is_heard_on_a_disk_that_cannot_be_written(host: LeasedHost) -> None:
    host.start_watchdog()
    host.renew(None)
    host.add("m")
    host.arm()
    assert host.runs("m")  # which opens the file of the pretended daemon: no disk is read-only for that
    with host.living._parts.database.read() as connection, read_only(host):
        first = host.renew(None, term=2, holder="bb")
        host.clock.ahead_s += TTL_S - 1
        assert host.watchdog is not None
        host.watchdog.tick()
        again = host.renew(first.moment + TTL_S - 1, term=2, holder="bb")
        assert (again.active, again.lease.term, again.lease.armed) == (True, 2, True)
        host.clock.ahead_s += TTL_S - 25
        host.watchdog.tick()
        assert host.runs("m")
        with pytest.raises(StaleOrder):
            host.renew(None)
        with pytest.raises(StorageFailed):
            host.renew(None, term=2, holder="bb", number=2)
        for term, holder in ((1, HOLDER), (2, "bb")):
            with pytest.raises((StaleOrder, StorageFailed)):
                host.living.machines.wish("m", Wish.STOPPED, assignment=Assignment(CONTROLLER, holder, term, 1, 1))
            with pytest.raises(StaleOrder):
                host.living.leases.check(connection, Assignment(CONTROLLER, holder, term, 1, 1))

    def written_down() -> bool:
        host.renew(again.moment + TTL_S - 25, term=2, holder="bb")
        return row_of(host) == LeaseRow(CONTROLLER, "bb", 2, 1, 0)

    eventually("it is written down", written_down)
    host.living.machines.wish("m", Wish.STOPPED, assignment=Assignment(CONTROLLER, "bb", 2, 1, 1))


def test_an_agent_that_starts_again_knows_who_was_heard_last(host: LeasedHost) -> None:
    host.renew(None)
    with read_only(host):
        host.renew(None, term=2, holder="bb")
        host.living.leases.stop()
    host.stop_agent()
    assert LeaseFiles(host.settings.data_dir, host.settings.runtime).read(CONTROLLER).term == 2  # type: ignore[union-attr]
    host.start_agent()
    with pytest.raises(StaleOrder):
        host.renew(None)
    eventually("it is written down", lambda: row_of(host) == LeaseRow(CONTROLLER, "bb", 2, 1, 0))


def test_an_end_that_cannot_be_written_down_is_said_once(host: LeasedHost, caplog: pytest.LogCaptureFixture) -> None:
    host.start_watchdog()
    host.arm()
    caplog.set_level(logging.INFO)
    with read_only(host):
        host.clock.ahead_s += TTL_S + 1
        for _ in range(4):
            host.living.leases.look()
        said = [each for each in caplog.records if each.name.startswith("garbi.hyper.leases")]
        assert [each.getMessage() for each in said] == ["the end of a lease cannot be written down"]
        assert said[0].exc_info is None
    eventually("it is written down", lambda: (row_of(host) or LeaseRow("", "", 0, 0, 0)).fenced == 1)
    assert LeaseFiles(host.settings.data_dir, host.settings.runtime).fenced(CONTROLLER) == 1
