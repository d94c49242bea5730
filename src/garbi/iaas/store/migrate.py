"""Brings the database of a controller to the schema of this version."""

from __future__ import annotations

from collections.abc import Callable

from garbi.storage.migrate import Migrations

WAY_ON = (
    "put back the database of the newest file of the folder copies in the data directory (without the files -wal and -shm of "
    "the damaged one), and start once with `iaas serve --after-restore`"
)
MIGRATIONS = Migrations("garbi.iaas.store", "0010", WAY_ON)


def migrate(url: str, before: Callable[[str], None] | None = None) -> None:
    """Make or upgrade the database at `url`; raises what `Migrations.apply` raises."""
    MIGRATIONS.apply(url, before)
