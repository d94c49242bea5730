"""Threats B: what an answer tells of the inside of the host to somebody who only wants to know that (CVE-2019-14433)."""

from __future__ import annotations

import logging
import random
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.api.conftest import Server, _settings, serving
from tests.security.test_injection import CORPUS, ask_about, post

from garbi.base.logs import EventFormatter
from garbi.hyper.main import open_agent

CANARY = "canary-of-the-path-7d1f0c"
INTERNALS = re.compile(
    rb"Traceback|File \"|\.py\b|sqlite|sqlalchemy|pydantic|starlette|uvicorn|site-packages|0x[0-9a-f]{8,}|canary-of-the-path",
    re.IGNORECASE,
)
ROUNDS = 400


@pytest.fixture
def placed(data_dir: Path) -> Iterator[Server]:
    """A server whose every file has the canary in its path."""
    with serving(open_agent(_settings(data_dir / CANARY, {})), 15.0) as made:
        yield made


def test_cve_2019_14433_no_refusal_tells_of_the_inside(placed: Server) -> None:
    chance = random.Random("garbi answers")
    for number in range(ROUNDS):
        text, field = chance.choice(CORPUS), chance.choice(("id", "image", "labels", "ports", "mem", "x"))
        if number % 2:
            reply = post(placed, {"image": "any", "type": chance.choice(("fake", "docker")), field: text})
        else:
            quoted = "".join(f"%{byte:02x}" for byte in text.encode("utf-8", "surrogatepass"))
            reply = placed.ask(*chance.choice(ask_about(quoted)))
        assert reply.status < 500
        assert INTERNALS.search(reply.body.replace(b"0x10", b"")) is None, reply
        if reply.status == 201 and reply.body:
            placed.client.machines.remove(reply.json()["id"])


def test_cve_2019_14433_an_unexpected_failure_tells_an_id_and_the_log_tells_the_rest(
    placed: Server, caplog: pytest.LogCaptureFixture
) -> None:
    rename(placed, "machines", "nowhere")  # what nobody foresees
    reply = placed.ask("GET", "/hyper/machines")
    assert reply.status == 500
    assert INTERNALS.search(reply.body) is None
    correlation_id = reply.json()["correlation_id"]
    assert reply.json().keys() == {"type", "title", "status", "detail", "code", "correlation_id"}
    (record,) = [each for each in caplog.records if getattr(each, "correlation_id", "") == correlation_id]
    assert record.exc_info is not None
    assert "no such table" in EventFormatter().format(record)
    rename(placed, "nowhere", "machines")


def rename(server: Server, table: str, name: str) -> None:
    """Give a table of the agent's database another name, behind its back."""
    with closing(sqlite3.connect(server.agent.settings.data_dir / "hyper.db")) as database:
        database.execute(f"ALTER TABLE {table} RENAME TO {name}")


def test_a_line_of_the_log_stays_one_whatever_a_user_wrote_in_it() -> None:
    for text in CORPUS:
        record = logging.LogRecord("x", logging.ERROR, "", 0, text, (), None)
        record.path = text
        line = EventFormatter().format(record).encode("utf-8", "backslashreplace").decode()
        assert len(line.splitlines()) == 1
        assert "\x1b" not in line
