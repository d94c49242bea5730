"""The controller's image store on a real database, and real agents with fake machines to bring images to."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.api.conftest import Server, StartServer, data_dir, start_server

from garbi.iaas.imagestore import ImageStore
from garbi.iaas.store.database import Database
from garbi.iaas.store.images import ImageTable
from garbi.iaas.store.migrate import migrate

__all__ = ["data_dir", "start_server"]

MIB = 1 << 20


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("database") / "iaas.db"
    migrate(f"sqlite:///{path}")
    return path.read_bytes()


@pytest.fixture
def database(tmp_path: Path, empty_database: bytes) -> Iterator[Database]:
    path = tmp_path / "iaas.db"
    path.write_bytes(empty_database)
    opened = Database(path)
    yield opened
    opened.close()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "images"


@pytest.fixture
def store(root: Path, database: Database) -> ImageStore:
    return ImageStore(root, ImageTable(database))


@pytest.fixture
def host(start_server: StartServer) -> Server:
    """An agent whose fake machines do at once what they are told."""
    return start_server()


def disk(fill: int = 1, size: int = MIB) -> bytes:
    return bytes([fill]) * size


def pieces(content: bytes, size: int = 65536) -> Iterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


def sha256_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())
