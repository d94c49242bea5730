"""A watchdog whose data directory cannot be written to does what it is there for all the same."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.leases.conftest import LeasedHost
from tests.leases.words import BOOT, TTL_S

from garbi.hyper.leases.heartbeat import beats
from garbi.hyper.main import DATABASE
from garbi.hyper.settings import runtime_of
from garbi.storage.identity import read_identity


def test_a_watchdog_that_cannot_write_its_beat_ends_machines_all_the_same(host: LeasedHost) -> None:
    watchdog = host.start_watchdog()
    host.renew(None)
    host.add("m")
    host.arm()
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, watchdog._heartbeat._file)
    os.close(full)
    host.stop_agent()
    host.clock.ahead_s += TTL_S + 1
    watchdog.tick()
    watchdog.tick()
    assert not host.runs("m")


def test_a_watchdog_that_cannot_list_leases_or_read_who_the_agent_is_ends_what_it_knows(host: LeasedHost) -> None:
    watchdog = host.start_watchdog()
    host.renew(None)
    host.add("m")
    host.arm()
    watchdog.tick()
    data_dir = host.settings.data_dir
    host.stop_agent()
    runtime = runtime_of(data_dir)
    runtime.rename(runtime.with_suffix(".elsewhere"))
    runtime.write_text("no directory")
    (data_dir / "cluster-id").write_bytes(b"\xff\xfe\xff")
    for path in data_dir.glob(f"{DATABASE}*"):
        path.unlink()
    watchdog.tick()
    assert host.runs("m")
    assert not beats(
        runtime_of(data_dir), BOOT, host.clock.since_boot()
    )  # a lease that it does not see is not to be armed
    host.clock.ahead_s += TTL_S + 1
    watchdog.tick()
    watchdog.tick()
    assert not host.runs("m")
    runtime.unlink()


@pytest.mark.parametrize("content", [b"\xff\xfe", b"", b"c0\n", b"g" * 32, b"c0" * 17])
def test_what_is_no_cluster_id_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "cluster-id").write_bytes(content)
    assert read_identity(tmp_path) is None
    (tmp_path / "cluster-id").write_bytes(b"c0" * 16 + b"\n")
    assert read_identity(tmp_path) == "c0" * 16
