"""The watchdog beside a database of an earlier version, which its agent could not bring up to date: machines end all the same."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from importlib.resources import files
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from tests.leases.words import CONTROLLER

from garbi.base.hanging import PatientDisk
from garbi.hyper.main import DATABASE
from garbi.hyper.settings import runtime_of
from garbi.hyper.store.migrate import MIGRATIONS
from garbi.hyper.watchdog.leased import judge_records
from garbi.hyper.watchdog.records import RecordReader
from garbi.hyper_api.assignment import CONTROLLER_LABEL
from garbi.storage.engine import make_engine, url_of

NOT_NULL = {
    "id": "m",
    "name": "m",
    "type": "fake",
    "image": "any",
    "image_sha256": "",
    "mem": 16,
    "cpus": 1,
    "node": "n1",
    "labels": f'{{"{CONTROLLER_LABEL}": "{CONTROLLER}"}}',
    "full_copy": 0,
    "wish": "running",
    "state": "running",
    "reason": "",
    "restart": "no",
    "on_node_failure": "recreate",
    "generation": 3,
    "settled_generation": 3,
    "boot_id": "",
    "created_at": "2026-01-01T00:00:00Z",
    "updated_at": "2026-01-01T00:00:00Z",
}


def database_of(place: Path, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(files(MIGRATIONS.package) / "migrations"))
    engine = make_engine(url_of(place / DATABASE), quick=True)
    with engine.connect().execution_options(garbi_write=True) as connection, connection.begin():
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    engine.dispose()
    with closing(sqlite3.connect(place / DATABASE)) as database, database:
        database.execute("INSERT INTO meta (key, value) VALUES ('cluster_id', ?)", ("ab" * 16,))
        names, values = ", ".join(NOT_NULL), ", ".join("?" for _ in NOT_NULL)
        database.execute(f"INSERT INTO machines ({names}) VALUES ({values})", tuple(NOT_NULL.values()))


@pytest.mark.parametrize("revision", ["0001", "0002", "0003", "0004", "head"])
def test_the_machines_of_a_database_of_any_version_end_with_their_lease(tmp_path: Path, revision: str) -> None:
    database_of(tmp_path, revision)
    records = RecordReader(tmp_path, runtime_of(tmp_path), PatientDisk(tmp_path)).read()
    assert records.cluster_id == "ab" * 16
    [target] = judge_records(records, CONTROLLER, 1).ending
    assert (target.id, target.type, target.cluster_id, target.begun) == ("m", "fake", "ab" * 16, True)


def test_words_of_a_later_version_do_not_keep_a_machine_from_ending(tmp_path: Path) -> None:
    database_of(tmp_path, "head")
    with closing(sqlite3.connect(tmp_path / DATABASE)) as database, database:
        database.execute("UPDATE machines SET state = 'moving', wish = 'moved'")
        database.execute("ALTER TABLE machines DROP COLUMN engine_life")
    [target] = judge_records(
        RecordReader(tmp_path, runtime_of(tmp_path), PatientDisk(tmp_path)).read(), CONTROLLER, 1
    ).ending
    assert (target.id, target.begun) == ("m", True)
