"""SIGKILL at moments that nobody chose: under load, while the database is made, and of the program itself."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from tests.conformance.bench import eventually
from tests.crash.load import Journal, Load, be_under_load
from tests.crash.scene import STATES, all_settled
from tests.crash.stage import Stage, stage_of
from tests.crash.victim import process

from garbi.base.errors import ServerUnreachable
from garbi.base.failpoints import EXIT_CODE
from garbi.base.token import TOKEN_FILE, read_secret
from garbi.hyper.store.migrate import migrate
from garbi.hyper_api.client import HyperClient
from garbi.storage.engine import url_of

SEED = 20
KILLS = 40
CHECK_EVERY = 4
DELAYS_S = (0.0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4)
HYPER = Path(sys.executable).with_name("hyper")


def test_kills_at_any_moment_under_load_lose_nothing_that_was_answered_and_orphan_nothing() -> None:
    random = Random(SEED)
    with stage_of("fake-persistent") as stage:
        journal = stage.data_dir.parent / "journal"
        settings = replace(
            stage.settings(), drivers={"fake": {"persist": "true", "delay_s": "0.01"}}, mem_limit_mib=65536
        )
        for number in range(KILLS):
            kill_under_load(Load(settings, journal, f"r{number}"), random)
            if number % CHECK_EVERY == CHECK_EVERY - 1:
                check_after_load(stage, Journal(journal))
        with stage.agent() as agent:
            for machine in agent.machines.list():
                agent.machines.remove(machine.id)
            all_settled(agent)
            assert stage.things() == []


def kill_under_load(load: Load, random: Random) -> None:
    """Kill an agent some time after its users began; every fourth while it still recovers from the last kill."""
    with process(be_under_load, load) as child:
        if random.random() < 0.75:
            eventually("the users begin", lambda: f"-{load.seed}-" in Journal(load.journal).text(), 60.0)
        child.join(random.choice(DELAYS_S))
        assert child.is_alive()
        child.kill()
        child.join()
        assert child.exitcode == -signal.SIGKILL


def check_after_load(stage: Stage, journal: Journal) -> None:
    """What was answered is there or gone, what was only asked is whole or was never there, and every wish won."""
    written = journal.read()
    with stage.agent() as agent:
        all_settled(agent)
        rows = {machine.id: machine for machine in agent.machines.list()}
        assert written["answered", "create"] - written["asked", "remove"] <= rows.keys() <= written["asked", "create"]
        assert not written["answered", "remove"] & rows.keys()
        strays = {row.id: str(row) for row in rows.values() if row.state is not STATES[row.wish]}
        assert strays == {}
        assert agent.audit() == []
        assert stage.things() == sorted(f"machine garbi--{machine_id}" for machine_id in rows)


def test_a_database_whose_making_is_killed_before_it_is_whole_is_made_by_the_next(tmp_path: Path) -> None:
    path = tmp_path / "hyper.db"
    with making(path, GARBI_CRASH_AT="store.migrate.written") as child:
        assert child.wait(60) == EXIT_CODE
    assert tables(path) == []
    migrate(path)
    assert "machines" in tables(path)


def test_a_database_that_the_child_of_a_killed_agent_is_still_making_is_not_made_twice(tmp_path: Path) -> None:
    path = tmp_path / "hyper.db"
    with making(path) as first, making(path) as second:
        migrate(path)
        assert (first.wait(60), second.wait(60)) == (0, 0)


@contextlib.contextmanager
def making(path: Path, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """The process that an agent starts to make its database."""
    command = [sys.executable, "-m", "garbi.storage.migrate", "garbi.hyper.store"]
    with subprocess.Popen(command, env=os.environ | environment, stdin=subprocess.PIPE, text=True) as child:
        assert child.stdin is not None
        child.stdin.write(url_of(path))
        child.stdin.close()
        try:
            yield child
        finally:
            child.kill()


def tables(path: Path) -> list[str]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return [name for (name,) in connection.execute("SELECT name FROM sqlite_master")]


def test_the_program_dies_where_its_environment_says_and_the_next_one_finishes(tmp_path: Path) -> None:
    with served(tmp_path, GARBI_CRASH_AT="machine.start.done") as (program, client):
        with pytest.raises(ServerUnreachable):
            client.machines.add({"image": "any", "type": "fake", "id": "web"}, wait_s=60)
        assert program.wait(60) == EXIT_CODE
    with served(tmp_path) as (_, client):
        machine = client.machines.get("web", wait_s=60)
        assert (machine["state"], machine["wish"]) == ("running", "running")
        assert client.audit() == []
        client.machines.remove("web")


@contextlib.contextmanager
def served(data_dir: Path, **environment: str) -> Iterator[tuple[subprocess.Popen[str], HyperClient]]:
    """`hyper serve`, and a client of it."""
    command = [str(HYPER), "serve", "--port", "0", "--data-dir", str(data_dir)]
    fake = {"GARBI_DRIVER_FAKE_PERSIST": "true"}
    with subprocess.Popen(command, env=os.environ | fake | environment, stdout=subprocess.PIPE, text=True) as program:
        try:
            assert program.stdout is not None
            found = re.search(r"http://\S+", program.stdout.readline())
            assert found
            yield program, HyperClient(found.group(), token=read_secret(data_dir / TOKEN_FILE))
        finally:
            program.kill()
