"""Brings the database of a host to the schema of this version."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from garbi.storage.engine import url_of
from garbi.storage.migrate import Migrations

WAY_ON = (
    "`hyper serve --adopt` puts the file aside and makes another from the files of the machines and what their engines run, or "
    "put back the newest file of the folder copies beside it (without the files -wal and -shm of the damaged one)"
)
MIGRATIONS = Migrations("garbi.hyper.store", "0005", WAY_ON)


def migrate(path: Path, before: Callable[[str], None] | None = None) -> None:
    """Make or upgrade the database at `path`; raises what `Migrations.apply` raises."""
    MIGRATIONS.apply(url_of(path), before)
