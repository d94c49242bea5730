"""Brings the database of a controller to the schema of this version."""

from __future__ import annotations

from garbi.storage.migrate import Migrations

MIGRATIONS = Migrations("garbi.iaas.store", "0002")


def migrate(url: str) -> None:
    """Make or upgrade the database at `url`; raises NoSpace, or FinalError with Alembic's own words."""
    MIGRATIONS.apply(url)
