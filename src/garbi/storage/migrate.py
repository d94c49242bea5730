"""Brings a database to the schema of this version, by Alembic.

The work is done in a child process, and only when there is some: Alembic and what it imports would stay in the memory of a
service that never needs them again.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from garbi.base.errors import Busy, FinalError, NoSpace
from garbi.base.failpoints import reach
from garbi.storage.conversion import converted_errors, first_line
from garbi.storage.engine import is_sqlite, make_engine, path_of
from garbi.storage.soundness import require_sound

if TYPE_CHECKING:
    from sqlalchemy import Connection

WAIT_S = 60


@dataclass(frozen=True, slots=True)
class Migrations:
    """The migrations of a service: the package that holds its `migrations` folder, and the newest of them.

    `way_on` says what an operator does about a damaged SQLite file.
    """

    package: str
    head: str
    way_on: str

    def apply(self, url: str, before: Callable[[str], None] | None = None) -> None:
        """Make or upgrade the database at `url`; `before` is called ahead of an upgrade, with the version that there will be.

        Raises DatabaseDamaged, NoSpace, DatabaseUnavailable when no server answers, or FinalError: a newer version of the
        program wrote the database, or Alembic cannot upgrade it, in its own words.
        """
        if is_sqlite(url):
            require_sound(path_of(url), self.way_on)
        revision = self._revision(url)
        if revision == self.head:
            return
        if revision is not None:
            self._require_known(revision, url)
            if before is not None:
                before(self.head)
        if is_sqlite(url):
            path_of(url).touch(mode=0o600)
        done = subprocess.run(
            [
                sys.executable,
                "-P",
                "-m",
                "garbi.storage.migrate",
                self.package,
            ],  # -P: no module of the present directory
            input=url,  # not an argument: a password in it is nobody's to see
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        if done.returncode != 0:
            words = done.stderr.strip().splitlines()[-1:] or ["no words"]
            error = NoSpace if "full" in words[0] else FinalError
            raise error(f"the database cannot be brought to version {self.head}: {words[0]}")

    def _require_known(self, revision: str, url: str) -> None:
        """A version that this program does not know is a later one: there has never been another."""
        versions = files(self.package) / "migrations" / "versions"
        if not any(each.name.startswith(f"{revision}_") for each in versions.iterdir()):
            where = path_of(url) if is_sqlite(url) else "on the server"
            raise FinalError(
                f"the database {where} was written by a newer Garbi (its schema is {revision}, this one knows {self.head} at "
                f"most), nothing was changed: install that version again, or put back a copy that was made before"
            )

    def _revision(self, url: str) -> str | None:
        if is_sqlite(url) and not path_of(url).exists():
            return None
        engine = make_engine(url)
        try:
            with converted_errors(), engine.connect() as connection:
                row = connection.execute(text("SELECT version_num FROM alembic_version")).first()
        except (SQLAlchemyError, Busy):
            return None
        finally:
            engine.dispose()
        return str(row[0]) if row else None


def _upgrade(package: str, url: str) -> None:
    """In the child: all the steps in one transaction. A second child waits: the service that began the first may be dead."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(files(package) / "migrations"))
    engine = make_engine(url, busy_timeout_s=WAIT_S, quick=True)
    with engine.connect().execution_options(garbi_write=True) as connection, connection.begin():
        _wait_for_other(connection)
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        reach("store.migrate.written")


def _wait_for_other(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(721463)"))


if __name__ == "__main__":
    try:
        _upgrade(sys.argv[1], sys.stdin.read())
    except DBAPIError as error:
        sys.exit(f"{type(error.orig).__name__}: {first_line(error)}")
