"""Empty databases for services that begin: making one takes a process of its own, so that is done once, and copied."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

from garbi.hyper.main import DATABASE as AGENT_DATABASE
from garbi.hyper.store import migrate as store_of_agent
from garbi.iaas.settings import DATABASE as CONTROLLER_DATABASE
from garbi.iaas.store import migrate as store_of_cloud
from garbi.storage.engine import url_of

PREPARED = {"drivers", "images", "token"}
"""What a test may have put into the directory of a service before it begins; anything else is of one that has begun."""


def put_agent_database(data_dir: Path) -> None:
    """Give an agent that never began the database that it would make; a directory that had one stays as it is."""
    _put(data_dir, AGENT_DATABASE, store_of_agent.migrate)


def put_controller_database(data_dir: Path) -> None:
    """The same for a controller."""
    _put(data_dir, CONTROLLER_DATABASE, _migrate_cloud)


def _put(data_dir: Path, name: str, migrate: Callable[[Path], None]) -> None:
    path = data_dir / name
    data_dir.mkdir(parents=True, exist_ok=True)
    if {each.name for each in data_dir.iterdir()} <= PREPARED:
        path.write_bytes(_fresh(migrate))
        path.chmod(0o600)


@cache
def _fresh(migrate: Callable[[Path], None]) -> bytes:
    with tempfile.TemporaryDirectory(prefix="garbi-fresh-") as place:
        path = Path(place) / "fresh.db"
        migrate(path)
        return path.read_bytes()


def _migrate_cloud(path: Path) -> None:
    store_of_cloud.migrate(url_of(path))
