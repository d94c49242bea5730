"""Copies of a service's database, made by age beside it: seven daily ones and four weekly ones, so that the space is bounded.

A copy is whole or not there. None is made when the disk is nearly full: what is left is for the service itself.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from garbi.base.clock import Clock
from garbi.base.errors import DatabaseDamaged, FinalError, GarbiError, NoSpace
from garbi.base.failpoints import reach
from garbi.storage.conversion import is_damage
from garbi.storage.engine import BUSY_TIMEOUT_S
from garbi.storage.whole_files import BESIDE, put_in_place

log = logging.getLogger(__name__)

DIRECTORY = "copies"
SPARED_BYTES = 128 << 20
"""What has to be left on the disk beside a copy."""

FIRST_S = 60.0
"""Pause before the first look whether a copy is due: a start has more urgent things to do."""

LONGEST_PAUSE_S = 3600.0
MOST_BEFORE = 2
"""How many copies that were made before an upgrade are kept."""

_FORM = re.compile(r"[a-z]+-(\d{8}T\d{6}Z)(-before-\w+)?\.\w+\Z")
_STAMP = "%Y%m%dT%H%M%SZ"

Write = Callable[[Path], None]
"""Writes a copy into an empty file that is there already, for its owner's eyes only."""


@dataclass(frozen=True, slots=True)
class CopyRules:
    """How often copies are made (0: never by themselves), and how many days and weeks have one each."""

    period_s: float = 86400.0
    daily: int = 7
    weekly: int = 4


@dataclass(frozen=True, slots=True)
class Copy:
    """A copy: where it is, when it was made, and whether that was before an upgrade."""

    path: Path
    made_at: datetime
    before_upgrade: bool


class Copies:
    """The copies in the data directory of one service. `size` says how large the next one will be, `write` makes it."""

    def __init__(
        self,
        data_dir: Path,
        stem: str,
        suffix: str,
        size: Callable[[], int],
        write: Write,
        clock: Clock,
        rules: CopyRules,
    ) -> None:
        self._directory = data_dir / DIRECTORY
        self._stem = stem
        self._suffix = suffix
        self._size = size
        self._write = write
        self._clock = clock
        self._lock = threading.Lock()
        self.rules = rules

    def make(self, word: str = "") -> Path:
        """Make a copy now; raises NoSpace when it would fill the disk, DatabaseDamaged, FinalError."""
        with self._lock:
            try:
                self._directory.mkdir(mode=0o700, exist_ok=True)
                self._directory.chmod(0o700)
                for left in self._directory.glob(f"*{BESIDE}"):
                    left.unlink(missing_ok=True)
                self._require_room()
                path = self._directory / f"{self._stem}-{self._clock.now():{_STAMP}}{word}{self._suffix}"
                return self._make(path)
            except OSError as error:
                raise FinalError(f"no copy can be made in {self._directory}: {error.strerror}") from error

    def make_before(self, version: str) -> None:
        """Make a copy ahead of an upgrade to a version; an upgrade goes on without, where there is no room."""
        try:
            self.make(f"-before-{version}")
        except GarbiError as error:
            log.warning("no copy was made before the upgrade", extra={"detail": error.detail})

    def is_due(self) -> bool:
        """Whether the newest is older than the period, or of the future: then the clock was wrong."""
        made = [copy.made_at for copy in self.list() if not copy.before_upgrade]
        now = self._clock.now()
        return not made or not timedelta(0) <= now - max(made) < timedelta(seconds=self.rules.period_s)

    def list(self) -> list[Copy]:
        """The copies that are here, the oldest first."""
        found = []
        for path in self._directory.glob(f"{self._stem}-*{self._suffix}"):
            form = _FORM.match(path.name)
            if form is not None:
                made_at = datetime.strptime(form[1], _STAMP).replace(tzinfo=UTC)
                found.append(Copy(path, made_at, form[2] is not None))
        return sorted(found, key=lambda copy: (copy.made_at, copy.path.name))

    def _require_room(self) -> None:
        free, size = shutil.disk_usage(self._directory).free, self._size()
        if free < size + SPARED_BYTES:
            left = f"{free >> 20} MiB are free, and a copy takes {max(size >> 20, 1)} MiB"
            raise NoSpace(f"no copy is made in {self._directory}: {left}; {SPARED_BYTES >> 20} MiB have to stay free")

    def _make(self, path: Path) -> Path:
        beside = Path(f"{path}{BESIDE}")
        os.close(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        try:
            self._write(beside)
            file = os.open(beside, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(file)
            finally:
                os.close(file)
            reach("copies.written")
            put_in_place(beside, path)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
        for old in superfluous(self.list(), self.rules):
            old.path.unlink(missing_ok=True)
        return path


class Copying:
    """The thread that makes copies when they are due; never, where the period is 0."""

    def __init__(self, copies: Copies) -> None:
        self._copies = copies
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="copying", daemon=True)

    def start(self) -> None:
        """Begin to look after them."""
        if self._copies.rules.period_s > 0:
            self._thread.start()

    def stop(self) -> None:
        """Make no more."""
        self._closing.set()

    def join(self, patience_s: float) -> None:
        """Wait for the copy under way, at most `patience_s` seconds."""
        if self._thread.is_alive():
            self._thread.join(patience_s)

    def _run(self) -> None:
        period_s = self._copies.rules.period_s
        pause_s = min(period_s, FIRST_S)
        while not self._closing.wait(pause_s):
            pause_s = min(period_s, LONGEST_PAUSE_S)
            try:
                if self._copies.is_due():
                    self._copies.make()
            except GarbiError as error:
                log.warning("no copy was made", extra={"detail": error.detail})
            except Exception:  # the loop has to survive what it cannot foresee
                log.exception("no copy was made")


def copy_sqlite(path: Path, target: Path) -> None:
    """Write the present state of an SQLite database into an empty file; others read and write meanwhile."""
    try:
        with closing(sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None)) as connection:
            connection.execute("VACUUM INTO ?", (str(target),))
    except sqlite3.Error as error:
        if is_damage(error):
            raise DatabaseDamaged(f"the database {path} is damaged: {error}") from error
        kind = NoSpace if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL else FinalError
        raise kind(f"the database {path} cannot be copied: {error}") from error


def superfluous(copies: Iterable[Copy], rules: CopyRules) -> list[Copy]:
    """The copies that may go: all but the newest of each of the last days and weeks that have one, and those before upgrades."""
    newest_first = sorted(copies, key=lambda copy: copy.made_at, reverse=True)
    regular = [copy for copy in newest_first if not copy.before_upgrade]
    days: dict[object, Copy] = {}
    weeks: dict[object, Copy] = {}
    for copy in regular:
        days.setdefault(copy.made_at.date(), copy)
        weeks.setdefault(copy.made_at.isocalendar()[:2], copy)
    kept = [*list(days.values())[: rules.daily], *list(weeks.values())[: rules.weekly], *regular[:1]]
    kept += [copy for copy in newest_first if copy.before_upgrade][:MOST_BEFORE]
    return [copy for copy in newest_first if copy not in kept]
