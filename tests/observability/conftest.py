"""Agents with fake machines, and how their databases are tampered with."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path

import pytest
from tests.agent.conftest import OpenAgent as OpenAgent
from tests.agent.conftest import data_dir as data_dir
from tests.agent.conftest import open_fake_agent as open_fake_agent

from garbi.base.audit import Violation

LIMIT_S = 120.0
_pause = threading.Event()


def tamper(database: Path, *statements: str) -> None:
    """Change rows behind the back of the service that has them, whatever the database would refuse."""
    with closing(sqlite3.connect(database, timeout=60)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def named(violations: Iterable[Violation], invariant: str) -> dict[str, str]:
    """The violations of one invariant: what each is about, and how it shows."""
    return {each.subject: each.detail for each in violations if each.invariant == invariant}


def eventually(what: str, holds: Callable[[], bool]) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + LIMIT_S
    while not holds():
        assert time.monotonic() < deadline, f"not in time: {what}"
        _pause.wait(0.05)


@pytest.fixture(autouse=True)
def quick_second_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """What these tests break stays broken: nothing is gained by waiting for it to come to rest."""
    for module in ("garbi.hyper.agent.agent", "garbi.iaas.controller.controller"):
        monkeypatch.setattr(f"{module}.CONFIRM_S", 0.05)
