"""The lock that a server keeps for one connection: one has it, the next gets it at once when the connection ends."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator

import psycopg
import pytest
from tests.iaas.clouds import LIMIT_S, eventually
from tests.postgres_server import PostgresServer

from garbi.base.clock import SystemClock
from garbi.base.errors import DatabaseUnavailable, GarbiError
from garbi.storage import session_lock
from garbi.storage.session_lock import SessionLock

KEY = 77
HOLDERS = "SELECT pid, granted FROM pg_locks WHERE locktype = 'advisory' AND objid = 77"


@pytest.fixture
def make_lock(url: str) -> Iterator[Callable[[], SessionLock]]:
    made: list[SessionLock] = []

    def make() -> SessionLock:
        made.append(SessionLock(url, KEY, SystemClock()))
        return made[-1]

    yield make
    for lock in made:
        lock.drop()


class Keeper(threading.Thread):
    """Keeps a lock that it has, or waits for it first; `end` is how that ended."""

    def __init__(self, lock: SessionLock, *, wait: bool = False) -> None:
        super().__init__(name=f"keeper-{uuid.uuid4().hex[:6]}", daemon=True)
        self._lock = lock
        self._wait = wait
        self.taken: bool | None = None
        self.until = 0.0
        self.end: GarbiError | str = ""
        self.start()

    def run(self) -> None:
        try:
            if self._wait:
                self.taken = self._lock.take()
            self._lock.keep(self._renewed)
            self.end = "interrupted"
        except GarbiError as error:
            self.end = error

    def _renewed(self, until: float) -> None:
        self.until = until


def kill_holders(url: str) -> None:
    """End the connections that have the lock, as the server does with silent ones."""
    with psycopg.connect(url, autocommit=True) as connection:
        for pid, granted in connection.execute(HOLDERS).fetchall():
            if granted:
                connection.execute("SELECT pg_terminate_backend(%s)", [pid])


def waiting(url: str) -> int:
    with psycopg.connect(url, autocommit=True) as connection:
        return sum(not granted for _, granted in connection.execute(HOLDERS).fetchall())


def test_one_has_it_and_the_next_gets_it_when_it_is_dropped(make_lock: Callable[[], SessionLock], url: str) -> None:
    first, second = make_lock(), make_lock()
    assert first.try_take()
    assert not second.try_take()
    waiter = Keeper(second, wait=True)
    eventually("it waits", lambda: waiting(url) == 1)
    first.drop()
    eventually("it has it", lambda: waiter.taken)
    assert not first.try_take()
    second.interrupt()
    waiter.join(LIMIT_S)
    assert waiter.end == "interrupted"
    second.drop()
    eventually("it is free", first.try_take)


def test_who_has_it_notices_at_once_that_the_connection_has_ended(
    make_lock: Callable[[], SessionLock], url: str
) -> None:
    lock = make_lock()
    assert lock.try_take()
    keeper = Keeper(lock)
    eventually("it is kept", lambda: keeper.until > SystemClock().since_boot())
    kill_holders(url)
    keeper.join(LIMIT_S)
    assert isinstance(keeper.end, DatabaseUnavailable)
    lock.drop()
    assert lock.try_take()


def test_who_waits_can_be_told_to_stop_waiting(make_lock: Callable[[], SessionLock], url: str) -> None:
    first, second = make_lock(), make_lock()
    assert first.try_take()
    waiter = Keeper(second, wait=True)
    eventually("it waits", lambda: waiting(url) == 1)
    second.interrupt()
    eventually("it waits no more", lambda: waiter.taken is False)
    eventually("nobody waits", lambda: waiting(url) == 0)
    second.interrupt()
    waiter.join(LIMIT_S)
    assert first.try_take()


def test_the_server_takes_it_from_who_says_nothing(
    make_lock: Callable[[], SessionLock], url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_lock, "SETTINGS", {**session_lock.SETTINGS, "idle_session_timeout": "500ms"})
    frozen, next_one = make_lock(), make_lock()
    assert frozen.try_take()
    waiter = Keeper(next_one, wait=True)
    eventually("another has it", lambda: waiter.taken)
    with pytest.raises(DatabaseUnavailable):
        frozen.keep(lambda _until: None)
    next_one.interrupt()
    waiter.join(LIMIT_S)


def test_without_a_server_it_is_said_that_there_is_none(postgres: PostgresServer) -> None:
    lock = SessionLock(postgres.url("nothing"), KEY, SystemClock())
    with pytest.raises(DatabaseUnavailable, match="does not exist"):
        lock.try_take()
    with pytest.raises(DatabaseUnavailable, match="does not answer"):
        SessionLock("postgresql://x@/x?host=/nowhere", KEY, SystemClock()).take()
