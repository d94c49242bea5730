"""What PostgreSQL says of itself becomes Garbi's errors: busy, full, gone; and readers see one moment."""

from __future__ import annotations

import secrets
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import event, text
from tests.iaas_store.cloud import NOW, Cloud
from tests.postgres_server import USER, PostgresServer

from garbi.base.errors import Busy, DatabaseUnavailable, GarbiError, NoSpace
from garbi.iaas.model.event import Subject
from garbi.iaas.store import events, meta
from garbi.iaas.store.migrate import migrate
from garbi.storage import engine
from garbi.storage.conversion import Undone

WAIT_S = 60


@pytest.fixture
def cloud(empty_postgres: str, directory: Path) -> Iterator[Cloud]:
    opened = Cloud.at(empty_postgres, directory)
    yield opened
    opened.database.close()


@pytest.fixture
def own_server() -> Iterator[PostgresServer]:
    """A server that the test may stop."""
    server = PostgresServer()
    try:
        server.start()
        yield server
    finally:
        server.remove()


def test_a_writer_who_waits_too_long_is_told_that_the_database_is_busy(
    cloud: Cloud, empty_postgres: str, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("garbi.storage.database.BUSY_TIMEOUT_S", 0.2)
    impatient = Cloud.at(empty_postgres, directory)
    with cloud.write() as transaction:
        meta.put(transaction, "key", "first")
        with pytest.raises(Busy):
            meta.get_or_set(impatient.database, "key", "second")
    assert meta.get_or_set(impatient.database, "key", "second") == "first"
    impatient.database.close()


def test_a_writer_who_falls_silent_is_cut_off_and_the_others_go_on(
    cloud: Cloud, empty_postgres: str, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("garbi.storage.database.BUSY_TIMEOUT_S", 0.2)
    silent = Cloud.at(empty_postgres, directory)
    done = threading.Event()

    def write() -> None:
        meta.get_or_set(cloud.database, "key", "from another")
        done.set()

    other = threading.Thread(target=write)

    def fall_silent() -> None:
        with silent.write() as transaction:
            meta.put(transaction, "key", "never")
            other.start()
            assert done.wait(WAIT_S)
            meta.put(transaction, "key", "never")

    with pytest.raises(DatabaseUnavailable):
        fall_silent()
    other.join(WAIT_S)
    assert meta.get_or_set(silent.database, "key", "late") == "from another"
    silent.database.close()


def test_a_deadlock_is_undone_and_may_be_tried_again(cloud: Cloud, empty_postgres: str) -> None:
    """Garbi's own writers come one after the other; somebody with psql does not."""
    for key in ("a", "b"):
        meta.get_or_set(cloud.database, key, "0")
    with psycopg.connect(empty_postgres, options="-c deadlock_timeout=60s") as stranger:
        stranger.execute("UPDATE meta SET value = '1' WHERE key = 'a'")
        waits = threading.Thread(target=lambda: stranger.execute("UPDATE meta SET value = '1' WHERE key = 'b'"))

        def write() -> None:
            with cloud.write() as transaction:
                transaction.connection.execute(text("SET LOCAL deadlock_timeout = '10ms'"))
                meta.put(transaction, "b", "2")
                waits.start()
                _wait_until_someone_waits(empty_postgres)
                meta.put(transaction, "a", "2")

        with pytest.raises(Undone):
            write()
        waits.join(WAIT_S)
    with cloud.write() as transaction:
        meta.put(transaction, "a", "2")


def test_a_server_that_ends_and_comes_back_is_used_again(own_server: PostgresServer, directory: Path) -> None:
    url = own_server.make_database()
    migrate(url)
    cloud = Cloud.at(url, directory)
    cloud.add_node()
    own_server.stop()
    for use in (cloud.node, cloud.all_machines, cloud.add_machine):
        with pytest.raises(DatabaseUnavailable) as refusal:
            use()
        assert refusal.value.temporary
    own_server.start()
    assert cloud.add_machine("web").node == "n1"
    cloud.database.close()


def test_a_connection_that_is_cut_in_a_transaction_leaves_nothing(cloud: Cloud, postgres: PostgresServer) -> None:

    def write() -> None:
        with cloud.write() as transaction:
            events.append(transaction, Subject.NODE, "n1", "created", NOW)
            pid = transaction.connection.execute(text("SELECT pg_backend_pid()")).scalar()
            postgres.say(f"SELECT pg_terminate_backend({pid}, {WAIT_S * 1000})")
            events.append(transaction, Subject.NODE, "n1", "state", NOW)

    with pytest.raises(DatabaseUnavailable):
        write()
    assert cloud.events() == []


def test_a_reader_sees_one_moment_and_cannot_write(cloud: Cloud) -> None:
    with cloud.read() as connection:
        assert meta.get(connection, "key") is None
        meta.get_or_set(cloud.database, "key", "value")
        assert meta.get(connection, "key") is None
    with pytest.raises(GarbiError), cloud.read() as connection:
        connection.execute(text("DELETE FROM meta"))


@pytest.mark.root
def test_a_full_disk_is_told_in_those_words_and_nothing_is_lost(own_server: PostgresServer, directory: Path) -> None:
    small = own_server.directory / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size=24m,uid={USER},mode=700", "tmpfs", small], check=True)
    try:
        own_server.say(f"CREATE TABLESPACE small LOCATION '{small}'")
        url = own_server.make_database(tablespace="small")
        migrate(url)
        cloud = Cloud.at(url, directory)
        cloud.add_node()
        kept = cloud.events()
        with pytest.raises(NoSpace):
            _fill(cloud)
        assert cloud.events() == kept
        cloud.database.close()
        own_server.stop()
    finally:
        subprocess.run(["umount", "--lazy", small], check=True)


def test_a_list_of_machines_is_one_query_however_many_there_are(cloud: Cloud) -> None:
    cloud.add_node()
    statements: list[str] = []

    @event.listens_for(engine.Engine, "before_cursor_execute")
    def note(connection: object, cursor: object, statement: str, *more: object) -> None:
        statements.append(statement)

    try:
        for number in range(30):
            cloud.add_machine(f"m{number}")
        statements.clear()
        assert len(cloud.all_machines()) == 30
        assert len([each for each in statements if each.startswith("SELECT")]) == 1
        statements.clear()
        cloud.add_machine("m30")
        few = len(statements)
        for number in range(30):
            cloud.add_node(f"other{number}")
        statements.clear()
        cloud.add_machine("m31")
        assert len(statements) == few
    finally:
        event.remove(engine.Engine, "before_cursor_execute", note)


def _fill(cloud: Cloud) -> None:
    with cloud.write() as transaction:
        for number in range(100):
            meta.put(transaction, f"key {number}", secrets.token_hex(200_000))


def _wait_until_someone_waits(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        while True:
            (number,) = connection.execute(query).fetchone() or (0,)
            if number:
                return
