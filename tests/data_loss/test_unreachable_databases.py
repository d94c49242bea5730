"""A database that cannot be read now is not lost: the start says why it cannot, and `--adopt` leaves it where it is, too."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest
from tests.data_loss.services import Service, settle_journal

from garbi.base.errors import Busy
from garbi.hyper.store import traces


@pytest.fixture
def agent(hyper: Service) -> Service:
    """An agent that ended in order."""
    hyper.serve()
    hyper.end()
    return hyper


def test_one_that_cannot_be_opened_is_neither_empty_nor_set_aside(agent: Service) -> None:
    """As on a full disk, where SQLite cannot make the files beside it, or for a user who may not read it."""
    beside = agent.database.with_name("hyper.db-wal")
    beside.mkdir()
    written = agent.database.read_bytes()
    for arguments in ((), ("--adopt",)):
        words = agent.refusal(*arguments)
        assert f"the database {agent.database} cannot be looked at" in words
        assert "--adopt" not in words
    doctor = agent.run("doctor", "--data-dir", str(agent.data_dir))
    assert "cannot be looked at" in doctor.stdout
    assert "--adopt" not in doctor.stdout
    assert agent.database.read_bytes() == written
    beside.rmdir()
    agent.serve()


def test_one_that_another_program_holds_is_busy(agent: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    settle_journal(agent.database)
    monkeypatch.setattr(traces, "BUSY_TIMEOUT_S", 0)
    with closing(sqlite3.connect(agent.database, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(Busy, match="cannot be looked at"):
            traces.find_loss(agent.data_dir)
    assert traces.find_loss(agent.data_dir) is None
