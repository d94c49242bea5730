"""Whether the file of a database can be worked with, looked at before a service begins: each page is what was written.

A damaged file is refused with one sentence, and nothing is written to it: it may be all that is left.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from time import monotonic

from garbi.base.errors import DatabaseDamaged
from garbi.storage.conversion import is_damage
from garbi.storage.engine import BUSY_TIMEOUT_S

LIMIT_S = 20.0
"""How long the look may take. 50 MB take a tenth of a second from a disk's cache; what is not looked at in time is trusted."""

INSTRUCTIONS = 20_000
"""How many instructions of SQLite pass between two looks at the time."""


def damage(path: Path, limit_s: float = LIMIT_S, now: Callable[[], float] = monotonic) -> str | None:
    """What is damaged of an SQLite file, in SQLite's words; None when nothing is found, or when there is no file yet."""
    if not path.exists() or path.stat().st_size == 0:
        return None
    deadline = now() + limit_s
    try:
        with closing(sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None)) as connection:
            connection.set_progress_handler(lambda: int(now() > deadline), INSTRUCTIONS)
            connection.execute("PRAGMA cell_size_check = ON")
            found = str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
    except sqlite3.Error as error:
        return str(error) if is_damage(error) else None
    return None if found == "ok" else found.strip().splitlines()[-1].strip()


def require_sound(path: Path, way_on: str) -> None:
    """Raise DatabaseDamaged, which names the file, what is damaged, and what is to be done, when the file is damaged."""
    found = damage(path)
    if found is not None:
        raise DatabaseDamaged(f"the database {path} is damaged ({found}), nothing was changed: {way_on}")
