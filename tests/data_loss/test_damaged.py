"""A database that is damaged, or of a newer version, ends in one sentence with the way on; while served, in a clear error."""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests.data_loss.services import (
    LIMIT_S,
    PAGE,
    Service,
    files_of,
    overwrite_pages,
    pages_in_use,
    service,
    settle_journal,
)
from tests.places import new_place

from garbi.base.errors import DatabaseDamaged
from garbi.base.token import TOKEN_FILE
from garbi.storage.database import Database
from garbi.storage.soundness import damage


@pytest.fixture(scope="module")
def worked() -> Iterator[Path]:
    """The directories of an agent and of a controller that have worked, and were killed with a journal beside the database."""
    place = new_place("garbi-loss-")
    for program in ("hyper", "iaas"):
        with service(program, place / program) as one:
            one.serve()
            for number in range(5 if program == "hyper" else 0):
                one.hyper.machines.add({"image": "any", "type": "fake", "id": f"m{number}", "mem": 64}, wait_s=LIMIT_S)
    yield place
    shutil.rmtree(place)


@pytest.fixture(params=["hyper", "iaas"])
def used(request: pytest.FixtureRequest, worked: Path) -> Service:
    """A service that has worked and does not run."""
    one: Service = request.getfixturevalue(request.param)
    shutil.copytree(worked / one.program, one.data_dir)
    return one


@pytest.mark.parametrize("seed", range(3))
def test_noise_in_the_file_is_told_in_one_sentence(used: Service, seed: int) -> None:
    pages = pages_in_use(used.database)
    settle_journal(used.database)
    overwrite_pages(used.database, seed, pages)
    before = used.database.read_bytes()
    words = used.refusal()
    assert f"the database {used.database} is damaged (" in words
    assert "copies" in words
    assert ("--adopt" in words) is (used.program == "hyper")
    assert used.database.read_bytes() == before  # it may be all that is left


def test_noise_under_a_journal_is_told_or_harmless(used: Service) -> None:
    assert used.database.with_name(used.database.name + "-wal").stat().st_size > 0
    overwrite_pages(used.database, seed=1)
    if damage(used.database) is None:  # the journal has all that was overwritten
        used.serve()
        assert used.program == "iaas" or len(used.hyper.machines.list()) == 5
        used.end()
    else:
        assert "is damaged (" in used.refusal()


def test_what_is_no_database_is_told(used: Service) -> None:
    for file in files_of(used.database):
        file.unlink()
    used.database.write_bytes(b"no database at all" * 1000)
    assert "is damaged (file is not a database)" in used.refusal()


def test_a_newer_schema_is_told_in_words_of_ours(used: Service) -> None:
    settle_journal(used.database)
    with closing(sqlite3.connect(used.database)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    words = used.refusal()
    assert "was written by a newer Garbi (its schema is 9999" in words
    assert "install that version" in words
    assert "revision" not in words  # Alembic's word


def test_damage_while_it_is_served_is_a_clear_answer(used: Service) -> None:
    used.serve()
    secret = (used.data_dir / TOKEN_FILE).read_text().strip()
    pages = used.database.stat().st_size // PAGE
    with closing(sqlite3.connect(used.database, timeout=LIMIT_S)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("BEGIN IMMEDIATE")  # nobody writes meanwhile
        with used.database.open("r+b") as file:
            file.seek(PAGE)
            file.write(b"\xff" * PAGE * (pages - 1))
        connection.execute("PRAGMA user_version = 7")  # so that nobody goes by what is in memory
        connection.execute("COMMIT")
    assert _ask(used, "audit", secret) == (503, "database-damaged")
    status, _ = _ask(used, "health", secret)
    assert status == 503


def test_the_look_at_the_file_takes_no_time_to_speak_of(place: Path) -> None:
    file = place / "large.db"
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("CREATE TABLE rows (id INTEGER PRIMARY KEY, text TEXT)")
        connection.executemany("INSERT INTO rows (text) VALUES (?)", (("x" * 500,) for _ in range(100_000)))
    assert file.stat().st_size > 50e6
    began = time.monotonic()
    assert damage(file) is None
    assert time.monotonic() - began < 10  # a tenth of a second on a quiet machine
    assert damage(file, limit_s=-1.0) is None  # what is not looked at in time is trusted


def test_a_file_that_is_not_there_yet_is_not_damaged(place: Path) -> None:
    assert damage(place / "none.db") is None
    (place / "new.db").touch()
    assert damage(place / "new.db") is None


def test_damage_is_remembered(place: Path) -> None:
    (place / "bad.db").write_bytes(b"noise" * 4096)
    database: Database[None] = Database(place / "bad.db")
    other = database.under(lambda _transaction: None)
    with pytest.raises(DatabaseDamaged), other.read() as connection:
        connection.exec_driver_sql("SELECT 1 FROM sqlite_master")
    assert database.damage is not None
    database.close()


def _ask(used: Service, path: str, secret: str) -> tuple[int, str]:
    connection = HTTPConnection(urlsplit(used.url).netloc, timeout=LIMIT_S)
    connection.request("GET", f"/{used.program}/{path}", headers={"Authorization": f"Bearer {secret}"})
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    return answer.status, "database-damaged" if '"database-damaged"' in body else body
