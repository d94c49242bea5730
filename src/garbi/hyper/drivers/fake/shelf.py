"""Where the pretended daemon keeps its records: in this process, or in a file that several processes share."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from garbi.base.errors import DriverUnavailable, NoSpace


class Shelf(Protocol):
    """Texts by kind and key. Reads and writes inside one `exclusive` block happen as one."""

    shared: bool
    """Whether other processes may write, so that a change is only found by looking."""

    def exclusive(self) -> contextlib.AbstractContextManager[None]: ...

    def get(self, kind: str, key: str) -> str | None: ...

    def all(self, kind: str) -> list[str]: ...

    def put(self, kind: str, key: str, text: str) -> None: ...

    def drop(self, kind: str, key: str) -> None: ...

    def version(self) -> tuple[int, int]:
        """Another value after each write, whoever wrote."""

    def close(self) -> None:
        """Let go of what is open; who uses it afterwards opens it again."""


class MemoryShelf:
    """Records in this process."""

    shared = False

    def __init__(self) -> None:
        self._texts: dict[str, dict[str, str]] = {}
        self._lock = threading.RLock()
        self._writes = 0

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        with self._lock:
            yield

    def get(self, kind: str, key: str) -> str | None:
        with self._lock:
            return self._texts.get(kind, {}).get(key)

    def all(self, kind: str) -> list[str]:
        with self._lock:
            return list(self._texts.get(kind, {}).values())

    def put(self, kind: str, key: str, text: str) -> None:
        with self._lock:
            self._texts.setdefault(kind, {})[key] = text
            self._writes += 1

    def drop(self, kind: str, key: str) -> None:
        with self._lock:
            self._texts.get(kind, {}).pop(key, None)
            self._writes += 1

    def version(self) -> tuple[int, int]:
        with self._lock:
            return (0, self._writes)

    def close(self) -> None:
        pass


class FileShelf:
    """Records in a SQLite file, made when first used. What was written outlives the writing process, killed or not."""

    shared = True

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._depth = 0
        self._writes = 0

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        with self._lock:
            if self._depth == 0:
                self._run("BEGIN IMMEDIATE")
            self._depth += 1
            try:
                yield
            except BaseException:
                self._depth -= 1
                if self._depth == 0:
                    self._run("ROLLBACK")
                raise
            self._depth -= 1
            if self._depth == 0:
                self._run("COMMIT")

    def get(self, kind: str, key: str) -> str | None:
        rows = self._run("SELECT text FROM records WHERE kind = ? AND key = ?", kind, key)
        return rows[0] if rows else None

    def all(self, kind: str) -> list[str]:
        return self._run("SELECT text FROM records WHERE kind = ? ORDER BY rowid", kind)

    def put(self, kind: str, key: str, text: str) -> None:
        self._writes += 1
        self._run(
            "INSERT INTO records VALUES (?, ?, ?) ON CONFLICT (kind, key) DO UPDATE SET text = excluded.text",
            kind,
            key,
            text,
        )

    def drop(self, kind: str, key: str) -> None:
        self._writes += 1
        self._run("DELETE FROM records WHERE kind = ? AND key = ?", kind, key)

    def version(self) -> tuple[int, int]:
        try:
            return (int(self._run("PRAGMA data_version")[0]), self._writes)
        except DriverUnavailable:
            return (-1, self._writes)

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None
                self._writes += 1  # what SQLite counts begins anew with the next connection

    def _run(self, statement: str, *values: str) -> list[Any]:
        """The first column of what the statement yields."""
        with self._lock:
            if self._connection is None and statement.startswith("SELECT") and not self._file.exists():
                return []  # who only looks makes nothing
            try:
                self._connection = self._connection or self._open()
                return [row[0] for row in self._connection.execute(statement, values)]
            except sqlite3.Error as error:
                if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
                    raise NoSpace(f"the disk of {self._file} is full") from error
                raise DriverUnavailable(f"the pretended daemon's file {self._file} cannot be used: {error}") from error

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._file, timeout=30, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS records (kind TEXT, key TEXT, text TEXT NOT NULL, PRIMARY KEY (kind, key))"
        )
        return connection
