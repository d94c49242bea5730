"""Several controllers on one PostgreSQL database, and hosts with fake machines for them."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import make_url
from tests.iaas import clouds
from tests.leadership.pairs import Controllers
from tests.places import new_place
from tests.postgres_server import PostgresServer

from garbi.iaas.store.migrate import migrate


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A running server for all tests that leave it running."""
    server = PostgresServer()
    try:
        server.start()
        yield server
    finally:
        server.stop(signal.SIGQUIT)  # nothing of it is needed any more
        server.remove()


@pytest.fixture(scope="session")
def template(postgres: PostgresServer) -> str:
    """The name of a database with the schema and nothing in it."""
    url = postgres.make_database()
    migrate(url)
    return str(make_url(url).database)


@pytest.fixture
def url(postgres: PostgresServer, template: str) -> str:
    """An empty database of the test's own."""
    return postgres.make_database(template)


@pytest.fixture
def place() -> Iterator[Path]:
    path = new_place("garbi-lead-")
    yield path
    shutil.rmtree(path)


@pytest.fixture
def controllers(place: Path, url: str) -> Iterator[Controllers]:
    """Makes controllers on that database, each with a directory of its own."""
    made = Controllers(place, url)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def make_host(place: Path) -> Iterator[Callable[[], clouds.FakeHost]]:
    """Makes hosts that are no nodes yet."""
    made: list[clouds.FakeHost] = []

    def make() -> clouds.FakeHost:
        made.append(clouds.FakeHost(place, f"n{len(made) + 1}"))
        return made[-1]

    yield make
    for host in made:
        host.stop()
