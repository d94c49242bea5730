"""Empty databases for simulated services: making one takes a process of its own, so it is done once and copied."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from garbi.hyper.main import DATABASE as AGENT_DATABASE
from garbi.hyper.store import migrate as store_of_agent
from garbi.iaas.store import migrate as store_of_cloud
from garbi.storage.engine import url_of


@cache
def fresh_agent() -> bytes:
    """The content of a new agent's database."""
    with tempfile.TemporaryDirectory(prefix="garbi-simulation-") as place:
        path = Path(place) / "fresh.db"
        store_of_agent.migrate(path)
        return path.read_bytes()


@cache
def fresh_controller() -> bytes:
    """The content of a new controller's database."""
    with tempfile.TemporaryDirectory(prefix="garbi-simulation-") as place:
        path = Path(place) / "fresh.db"
        store_of_cloud.migrate(url_of(path))
        return path.read_bytes()


def prepare() -> None:
    """Make both now, to have them in processes that are forked."""
    fresh_agent()
    fresh_controller()


def put_databases(controller: Path, agents: Iterable[Path]) -> None:
    """Give a controller and agents, by their data directories, databases of this version."""
    _put(controller, fresh_controller())
    for data_dir in agents:
        _put(data_dir / AGENT_DATABASE, fresh_agent())


def _put(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(0o600)
