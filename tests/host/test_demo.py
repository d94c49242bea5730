"""The demo does what the README says, twice, and leaves nothing."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.conformance.conftest import open_directory

DEMO = Path(__file__).parents[2] / "scripts/demo"
PAGE = re.compile(r"^\$ curl (http://127\.0\.0\.1:\d+/)", re.MULTILINE)
LISTINGS = (
    ["virsh", "-c", "qemu:///system", "list", "--all", "--name"],
    ["virsh", "-c", "qemu:///system", "net-list", "--all", "--name"],
    ["virsh", "-c", "qemu:///system", "pool-list", "--all", "--name"],
    ["docker", "ps", "--all", "--no-trunc", "--format", "{{.Names}} {{.Labels}}"],
    ["docker", "images", "--format", "{{.Repository}}:{{.Tag}}"],
    ["nft", "list", "tables"],
    ["ip", "-oneline", "link"],
)

pytestmark = [pytest.mark.root, pytest.mark.docker, pytest.mark.libvirt]


class Demo:
    """The demo in a place of the test's own."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def run(self, *verb: str) -> str:
        """What it prints."""
        environment = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(Path.home()),
            "GARBI_DEMO_DIR": str(self.place),
        }
        done = subprocess.run([DEMO, *verb], env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr + self._log()
        return done.stdout

    def mark(self) -> str:
        """What the names of all that its agent makes begin with."""
        with closing(sqlite3.connect(self.place / "hyper/hyper.db")) as database:
            (cluster_id,) = database.execute("SELECT value FROM meta WHERE key = 'cluster_id'").fetchone()
        return str(cluster_id)[:8]

    def _log(self) -> str:
        logs = [self.place / f"{program}.log" for program in ("hyper", "iaas")]
        return "".join(log.read_text(errors="replace")[-4000:] for log in logs if log.exists())


@pytest.fixture
def demo() -> Iterator[Demo]:
    demo = Demo(open_directory() / "demo")
    try:
        yield demo
    finally:
        demo.run("stop")
        demo.place.parent.rmdir()


def test_the_demo_shows_two_pages_also_the_second_time_and_leaves_nothing(demo: Demo) -> None:
    first = demo.run()
    second = demo.run()
    mark = demo.mark()
    seen_while_running = _listed()

    pages = PAGE.findall(first)
    assert len(pages) == 2
    assert PAGE.findall(second) == pages
    assert "iaas vm add" in first
    assert "vm add tiny --name" not in second
    assert all(_fetch(page) for page in pages)
    demo.run("stop")

    assert mark in seen_while_running
    assert mark not in _listed()
    assert not demo.place.exists()


def _fetch(page: str) -> bytes:
    with urllib.request.urlopen(page, timeout=60) as answer:
        return bytes(answer.read())


def _listed() -> str:
    return "".join(subprocess.run(command, capture_output=True, text=True, check=True).stdout for command in LISTINGS)
