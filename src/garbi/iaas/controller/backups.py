"""Backups of a controller: its database with its keys in one file, by age and whenever asked for.

On PostgreSQL the keys only: the database is copied by the server's own means, and what a backup says tells how.
"""

from __future__ import annotations

import tarfile
from pathlib import Path

from garbi.base.clock import Clock
from garbi.base.token import TOKEN_FILE
from garbi.iaas.settings import DATABASE, Settings
from garbi.iaas_api.cloud import Backup
from garbi.storage.copies import Copies, CopyRules, copy_sqlite
from garbi.storage.engine import is_sqlite, path_of
from garbi.storage.identity import IDENTITY

KEYS = (TOKEN_FILE, "known_hosts", IDENTITY)
"""The files of the data directory that are neither the database nor made again by themselves."""

WHOLE = "unpack it into an empty directory, and start once with `iaas serve --data-dir DIRECTORY --after-restore`"
KEYS_ONLY = (
    "these are the keys only: copy the database with `pg_dump --format=custom` too; to restore, `pg_restore` it, unpack the keys "
    "into an empty directory, and start once with `iaas serve --data-dir DIRECTORY --database URL --after-restore`"
)


class Backups:
    """The backups of one controller."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        rules = CopyRules(settings.copy_period_s, settings.copies_daily, settings.copies_weekly)
        self.copies = Copies(settings.data_dir, "iaas", ".tar", self._size, self._write, clock, rules)

    def make(self) -> Backup:
        """Make one now; raises NoSpace, DatabaseDamaged, FinalError."""
        path, whole = self.copies.make(), self._file is not None
        advice = WHOLE if whole else KEYS_ONLY
        return Backup(str(path), path.stat().st_size, self._clock.now(), whole, advice)

    @property
    def _file(self) -> Path | None:
        url = self._settings.database_url
        return path_of(url) if is_sqlite(url) else None

    def _size(self) -> int:
        """The database lies there twice for a moment."""
        return 0 if self._file is None or not self._file.exists() else 2 * self._file.stat().st_size

    def _write(self, target: Path) -> None:
        database = target.with_name(f"{target.name}-database")
        try:
            with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as tar:
                if self._file is not None:
                    database.unlink(missing_ok=True)
                    database.touch(mode=0o600)
                    copy_sqlite(self._file, database)
                    _add(tar, database, DATABASE)
                for name in KEYS:
                    if (self._settings.data_dir / name).is_file():
                        _add(tar, self._settings.data_dir / name, name)
        finally:
            database.unlink(missing_ok=True)


def _add(tar: tarfile.TarFile, path: Path, name: str) -> None:
    info = tar.gettarinfo(str(path), name)
    info.mode = 0o600
    with path.open("rb") as file:
        tar.addfile(info, file)
