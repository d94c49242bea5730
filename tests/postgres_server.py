"""A PostgreSQL server of the tests' own: in a directory of its own, on a socket in it, gone with the tests."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import threading
import uuid
from pathlib import Path

import psycopg
import pytest

PROGRAMS = Path("/usr/lib/postgresql")
USER = "postgres"
ENDED_WITHIN_S = 60
SETTINGS = {
    "listen_addresses": "",
    "fsync": "off",  # the machine of a test may lose power, its data may go with it
    "max_connections": "300",
    "shared_buffers": "16MB",
}


class PostgresServer:
    """A running server. `stop` and `start` may follow one another; `remove` ends it and takes its files away."""

    def __init__(self, primary: PostgresServer | None = None, **settings: str) -> None:
        """`primary` runs, and this one follows it: it takes over what that writes, a little later, and writes nothing itself."""
        self.directory = Path(tempfile.mkdtemp(prefix="garbi-pg-"))
        self._settings = SETTINGS | {"unix_socket_directories": str(self.directory), **settings}
        self._account = {"user": USER, "group": USER, "extra_groups": []} if os.geteuid() == 0 else {}
        self._process: subprocess.Popen[bytes] | None = None
        if os.geteuid() == 0:
            shutil.chown(self.directory, USER, USER)
        data = str(self.directory / "data")
        if primary is None:
            self._run("initdb", "-D", data, "-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
        else:
            source = ("-h", str(primary.directory), "-U", USER)
            self._run("pg_basebackup", *source, "-D", data, "-R", "-X", "stream", "-c", "fast", "--no-sync")

    def start(self) -> None:
        """Start it, and wait until it answers."""
        settings = [word for name, value in self._settings.items() for word in ("-c", f"{name}={value}")]
        command = [program("postgres"), "-D", self.directory / "data", *settings]
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, **self._account)  # type: ignore[call-overload]
        self._run("pg_isready", "-h", str(self.directory), "-t", "0", "-q", until=True)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End it: SIGINT cuts every connection and shuts down in order."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(timeout=ENDED_WITHIN_S)
            self._process = None

    def cut_off(self) -> None:
        """Let it follow its primary no further: what that writes from now on is lost with it."""
        self.say("ALTER SYSTEM SET primary_conninfo = ''")
        self.say("SELECT pg_reload_conf()")
        while self.say("SELECT 1 FROM pg_stat_wal_receiver"):
            threading.Event().wait(0.02)

    def promote(self) -> None:
        """Let it take the place of its primary, and wait until it does."""
        self._run("pg_ctl", "promote", "-D", str(self.directory / "data"), "-w", "-t", str(ENDED_WITHIN_S))

    def remove(self) -> None:
        """End it and take everything away."""
        try:
            self.stop()
        finally:
            shutil.rmtree(self.directory)

    def url(self, database: str) -> str:
        """The URL of one of its databases."""
        return f"postgresql://{USER}@/{database}?host={self.directory}"

    def make_database(self, template: str = "template1", tablespace: str = "pg_default") -> str:
        """A new database, as a copy of another; returns its URL."""
        name = f"t{uuid.uuid4().hex[:12]}"
        self.say(f"CREATE DATABASE {name} TEMPLATE {template} TABLESPACE {tablespace}")
        return self.url(name)

    def say(self, statement: str) -> list[tuple[object, ...]]:
        """Tell the server something, outside of any transaction."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            answer = connection.execute(statement.encode())
            return answer.fetchall() if answer.description else []

    def _run(self, name: str, *arguments: str, until: bool = False) -> None:
        command = [program(name), *arguments]
        while True:
            done = subprocess.run(command, capture_output=True, check=False, cwd="/", **self._account)  # type: ignore[call-overload]
            if done.returncode == 0:
                return
            if not until or self._process is None or self._process.poll() is not None:
                log = self.directory / "log"
                words = log.read_text() if log.exists() else done.stderr.decode()
                pytest.fail(f"{name} failed: {words}", pytrace=False)


def program(name: str) -> Path:
    """A program of the newest PostgreSQL of this host."""
    found = sorted(PROGRAMS.glob(f"*/bin/{name}"), key=lambda path: float(path.parts[-3]))
    if not found:
        pytest.fail(f"PostgreSQL's {name} is not here; `make setup` installs it (package postgresql)", pytrace=False)
    return found[-1]
