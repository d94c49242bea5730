"""Brings a database to the schema of this version, by Alembic.

The work is done in a child process, and only when there is some: Alembic and what it imports would stay in the memory of an
agent that never needs them again.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from garbi.base.errors import FinalError, NoSpace
from garbi.base.failpoints import reach

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

HEAD = "0001"
WAIT_S = 60


def migrate(path: Path) -> None:
    """Make or upgrade the database at `path`; raises NoSpace, or FinalError with Alembic's own words."""
    if _revision(path) == HEAD:
        return
    path.touch(mode=0o600)
    done = subprocess.run(
        [sys.executable, "-P", "-m", "garbi.hyper.store.migrate", str(path)],  # -P: no module of the present directory
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    if done.returncode != 0:
        words = done.stderr.strip().splitlines()[-1:] or ["no words"]
        error = NoSpace if "full" in words[0] else FinalError
        raise error(f"the database {path} cannot be brought to version {HEAD}: {words[0]}")


def _revision(path: Path) -> str | None:
    if not path.exists():
        return None
    connection = sqlite3.connect(path)
    try:
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite3.OperationalError:
        return None
    finally:
        connection.close()
    return str(row[0]) if row else None


def _upgrade(path: str) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    with _whole(path).begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        reach("store.migrate.written")


def _whole(path: str) -> Engine:
    """An engine whose transactions hold changes of the schema too: all of them are on the disk, or none.

    A second one waits: the agent that began the first may have been killed, and its child not.
    """
    from sqlalchemy import create_engine, event

    engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": WAIT_S})

    @event.listens_for(engine, "connect")
    def _leave_transactions_alone(connection: Any, _record: Any) -> None:
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


if __name__ == "__main__":
    _upgrade(sys.argv[1])
