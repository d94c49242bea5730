"""Connections to libvirt that end under the hands of those who use them."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import libvirt
import pytest

from garbi.hyper.drivers.libvirt.connection import Connection, is_alive
from garbi.hyper.drivers.libvirt.events import Watcher

MOCK = "test:///default"
PATIENCE_S = 60


@pytest.fixture
def connection() -> Iterator[Connection]:
    made = Connection(MOCK)
    yield made
    made.close()


def test_a_connection_that_was_closed_is_not_alive() -> None:
    live = libvirt.open(MOCK)
    assert is_alive(live)
    live.close()
    assert not is_alive(live)
    assert not is_alive(None)


def test_events_are_heard_again_after_the_connection_was_closed_under_the_watcher(connection: Connection) -> None:
    missed = threading.Event()

    def notice(machine_id: str | None) -> None:
        if machine_id is None:
            missed.set()

    watcher = Watcher(connection, lambda _domain: None, notice, lambda _event: None, lambda _live: None)
    watcher.start()
    try:
        connection.get().close()  # as the thread does that opens its successor
        connection.lost.set()
        assert missed.wait(PATIENCE_S), "the watcher has ended"
    finally:
        watcher.close()
