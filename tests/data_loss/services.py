"""`hyper serve` and `iaas serve` as processes whose databases are lost, emptied, replaced and damaged between two starts."""

from __future__ import annotations

import os
import random
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.databases import put_agent_database, put_controller_database
from tests.run_dir import RUN_DIR

from garbi.base.failpoints import EXIT_CODE
from garbi.base.token import TOKEN_FILE, read_secret
from garbi.hyper_api.client import HyperClient
from garbi.iaas_api.client import IaasClient

BIN = Path(sys.executable).parent
LIMIT_S = 120.0
PAGE = 4096


@dataclass
class Service:
    """One service of one data directory, which comes and goes."""

    program: str
    data_dir: Path
    settings: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[str] | None = None
    url: str = ""

    @property
    def database(self) -> Path:
        return self.data_dir / f"{self.program}.db"

    def serve(self, *arguments: str) -> None:
        """Start it; return once it answers."""
        if not self.data_dir.exists():
            {"hyper": put_agent_database, "iaas": put_controller_database}[self.program](self.data_dir)
        self.process = self._start(*arguments)
        assert self.process.stdout is not None
        for line in self.process.stdout:
            found = re.search(r"http://\S+", line)
            if found:
                self.url = found.group()
                return
        raise AssertionError(self.process.communicate(timeout=LIMIT_S)[1])

    def refusal(self, *arguments: str) -> str:
        """What it says on stderr when it does not start: one sentence, and no traceback."""
        done = self._start(*arguments)
        try:
            _, words = done.communicate(timeout=LIMIT_S)
        finally:
            done.kill()
        assert done.returncode == 1, (done.returncode, words)
        said = [line for line in words.splitlines() if line.startswith(f"{self.program}: ")]
        assert len(said) == 1, words
        assert "Traceback" not in words
        return said[0]

    def crash(self, place: str, *arguments: str) -> None:
        """Let it die at a place of its start."""
        self.settings["GARBI_CRASH_AT"] = place
        try:
            dying = self._start(*arguments)
            _, words = dying.communicate(timeout=LIMIT_S)
        finally:
            del self.settings["GARBI_CRASH_AT"]
        assert dying.returncode == EXIT_CODE, words

    def kill(self) -> None:
        """End it as a power cut does."""
        if self.process is not None:
            self.process.kill()
            self.process.communicate(timeout=LIMIT_S)
            self.process = None

    def end(self) -> None:
        """End it in order."""
        assert self.process is not None
        self.process.terminate()
        _, words = self.process.communicate(timeout=LIMIT_S)
        assert "Traceback" not in words, words
        self.process = None

    @property
    def hyper(self) -> HyperClient:
        return HyperClient(self.url, token=read_secret(self.data_dir / TOKEN_FILE))

    @property
    def iaas(self) -> IaasClient:
        return IaasClient(self.url, token=read_secret(self.data_dir / TOKEN_FILE))

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A command of the program."""
        command = [BIN / self.program, *arguments]
        return subprocess.run(
            command, env=self._environment(), capture_output=True, text=True, check=False, timeout=LIMIT_S
        )

    def _start(self, *arguments: str) -> subprocess.Popen[str]:
        command = [BIN / self.program, "serve", "--port", "0", "--data-dir", str(self.data_dir), *arguments]
        return subprocess.Popen(
            command, env=self._environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def _environment(self) -> dict[str, str]:
        plain = {name: value for name, value in os.environ.items() if not name.startswith("GARBI_") or name == RUN_DIR}
        return {**plain, "GARBI_DRIVER_FAKE_PERSIST": "true", **self.settings}


@contextmanager
def service(program: str, data_dir: Path, **settings: str) -> Iterator[Service]:
    """A service, killed at the end."""
    one = Service(program, data_dir, settings)
    try:
        yield one
    finally:
        one.kill()


def files_of(database: Path) -> list[Path]:
    """The file of a database with its journal."""
    return sorted(database.parent.glob(f"{database.name}*"))


def lose(database: Path) -> None:
    """Delete it."""
    for file in files_of(database):
        file.unlink()


def empty(database: Path) -> None:
    """Truncate it, and leave the journal."""
    os.truncate(database, 0)


def copy_of(database: Path, place: Path) -> Path:
    """A consistent copy, as a backup makes one."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("VACUUM INTO ?", (str(place),))
    return place


def roll_back(database: Path, copy: Path) -> None:
    """Replace it by an older copy."""
    lose(database)
    shutil.copyfile(copy, database)


def settle_journal(database: Path) -> None:
    """Write the journal into the file, and delete it."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("PRAGMA journal_mode=DELETE")


def pages_in_use(database: Path) -> list[int]:
    """The pages of the b-trees of the tables, the first page of the file left out."""
    with closing(sqlite3.connect(database)) as connection:
        roots = connection.execute("SELECT rootpage FROM sqlite_master WHERE type = 'table' AND rootpage > 1")
        return [int(row[0]) for row in roots]


def overwrite_pages(database: Path, seed: int, pages: list[int] | None = None) -> list[int]:
    """Write noise over four pages, of these or of all."""
    chance = random.Random(seed)
    most = database.stat().st_size // PAGE
    chosen = chance.sample(pages or range(1, most + 1), 4)
    with database.open("r+b") as file:
        for page in chosen:
            file.seek((page - 1) * PAGE)
            file.write(chance.randbytes(PAGE))
    return chosen
