"""Databases of a controller for tests: each test runs on SQLite and on a PostgreSQL server of its own."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from tests.iaas_store.cloud import Cloud
from tests.places import new_place
from tests.postgres_server import PostgresServer

from garbi.iaas.store.migrate import migrate
from garbi.iaas.store.schema import metadata
from garbi.storage.engine import is_sqlite, url_of

KINDS = ("sqlite", "postgresql")


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A running server for all tests."""
    server = PostgresServer()
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory of the test's own: the controller's data directory."""
    path = new_place("garbi-test-")
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def empty_sqlite() -> Iterator[Path]:
    """An SQLite database with the schema, to be copied."""
    directory = new_place("garbi-test-")
    migrate(url_of(directory / "empty.db"))
    yield directory / "empty.db"
    shutil.rmtree(directory)


@pytest.fixture(scope="session")
def migrated_postgres(postgres: PostgresServer) -> str:
    """A PostgreSQL database with the schema."""
    url = postgres.make_database()
    migrate(url)
    return url


@pytest.fixture
def empty_postgres(migrated_postgres: str) -> str:
    """The same, without what the last test left in it."""
    with psycopg.connect(migrated_postgres, options="-c lock_timeout=60s") as connection:
        tables = ", ".join(metadata.tables)
        connection.execute(f"TRUNCATE {tables} RESTART IDENTITY CASCADE".encode())
    return migrated_postgres


@pytest.fixture(params=KINDS)
def bare_url(request: pytest.FixtureRequest, directory: Path) -> str:
    """Where a database can be made."""
    if request.param == "sqlite":
        return url_of(directory / "iaas.db")
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.make_database()


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, directory: Path) -> str:
    """An empty database with the schema."""
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("empty_sqlite"), directory / "iaas.db")
        return url_of(directory / "iaas.db")
    empty: str = request.getfixturevalue("empty_postgres")
    return empty


@pytest.fixture
def open_cloud(url: str, directory: Path) -> Iterator[Callable[[], Cloud]]:
    """Opens the database once more, as another controller would."""
    opened: list[Cloud] = []

    def opener() -> Cloud:
        opened.append(Cloud.at(url, directory))
        return opened[-1]

    yield opener
    for each in opened:
        each.database.close()


@pytest.fixture
def cloud(open_cloud: Callable[[], Cloud]) -> Cloud:
    """The records of a cloud without a node."""
    return open_cloud()


@pytest.fixture
def on_sqlite(url: str) -> bool:
    """Whether this run is on SQLite."""
    return is_sqlite(url)
