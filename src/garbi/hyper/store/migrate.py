"""Brings the database of a host to the schema of this version."""

from __future__ import annotations

from pathlib import Path

from garbi.storage.engine import url_of
from garbi.storage.migrate import Migrations

MIGRATIONS = Migrations("garbi.hyper.store", "0003")


def migrate(path: Path) -> None:
    """Make or upgrade the database at `path`; raises NoSpace, or FinalError with Alembic's own words."""
    MIGRATIONS.apply(url_of(path))
