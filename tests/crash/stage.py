"""Where operations are killed: one data directory on one driver, with a machine beside the victim, and machines of others."""

from __future__ import annotations

import contextlib
import shutil
import socket
import sqlite3
import subprocess
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.conformance.bench import eventually
from tests.conformance.subjects import Subject, make_subject
from tests.crash.operations import OPERATIONS
from tests.crash.pictures import pictures
from tests.crash.scene import BYSTANDER, IMAGE, PATIENCE_S, VICTIM, Scene, all_settled, find, take_in
from tests.crash.victim import Orders, carry_out, process
from tests.databases import put_agent_database
from tests.free_ports import free_port
from tests.places import new_place

from garbi.hyper.agent import Agent
from garbi.hyper.drivers.fake.daemon import daemon_in_file
from garbi.hyper.drivers.protocol import Condition, Driver, NetworkAttached
from garbi.hyper.main import DATABASE, open_agent
from garbi.hyper.purge import purge
from garbi.hyper.settings import Settings

TYPES = {"fake-persistent": "fake", "docker": "docker", "libvirt-qemu": "libvirt"}
ALIVE = (Condition.RUNNING, Condition.PAUSED)
OPENING, OPENINGS = "agent.open.", 3
"""How the places are called that an agent passes before it does anything, and how many they are."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a process ended: its exit code, whether the verb had returned, the places it passed, the last that it printed."""

    code: int | None
    answered: bool
    visited: list[str]
    words: str


class Stage:
    """One agent's world. Everything is asked of the daemon and the disk beside what the agent says."""

    def __init__(self, subject_name: str, root: Path) -> None:
        self.type = TYPES[subject_name]
        self.data_dir = root / "data"
        self._driver_dir = self.data_dir / "drivers" / self.type
        self._driver_dir.mkdir(parents=True)
        work_dir = self._driver_dir if self.type == "fake" else root  # where its subject looks for the pretended daemon
        self.subject: Subject = make_subject(subject_name, work_dir)
        self.scene = Scene(self.type, 192, pictures(self.subject, self.type, root), free_port())
        self._papers = root / "papers"
        self._papers.mkdir()
        self._incarnation = ""
        self.cluster_id = ""
        self.passed: dict[str, set[str]] = {}
        self._looker: Driver | None = None

    @contextlib.contextmanager
    def agent(self, operation: str = "") -> Iterator[Agent]:
        """The agent, in this process."""
        agent = open_agent(self.settings(operation))
        try:
            self.cluster_id = agent.cluster_id
            yield agent
        finally:
            agent.close()

    def populate(self) -> None:
        """Have a machine run beside the victim, and machines that are not ours."""
        put_agent_database(self.data_dir)
        with self.agent() as agent:
            take_in(agent, self.scene, IMAGE)
            agent.machines.add(self.scene.spec(BYSTANDER, IMAGE))
            all_settled(agent)
        self._incarnation = self.subject.incarnation(self.cluster_id, BYSTANDER)
        self.subject.make_foreign(self.cluster_id, VICTIM)

    def run(self, operation: str, crash_at: str = "", *, recover: bool = False) -> Ending:
        """Let another process be the agent, do the operation or only recover from a kill of it, and perhaps die on the way."""
        visited, answered, output = (self._papers / name for name in ("visited", "answered", "output"))
        for paper in (visited, answered, output):
            paper.unlink(missing_ok=True)
        asked = "" if recover else operation
        orders = Orders(self.settings(operation), self.scene, asked, crash_at, visited, answered, output)
        with process(carry_out, orders) as child:
            child.join(2 * PATIENCE_S)
            code = child.exitcode
        self._learn_cluster()
        places = visited.read_text().splitlines() if visited.exists() else []
        return Ending(code, answered.exists(), places, output.read_text(errors="replace")[-2000:])

    @contextlib.contextmanager
    def kept(self) -> Iterator[Callable[[], None]]:
        """Keep what is there now, as no agent runs; gives what brings it back. Only fake machines are wholly in files."""
        assert self.type == "fake"
        copy = self.data_dir.with_name("kept")
        shutil.copytree(self.data_dir, copy)

        def bring_back() -> None:
            daemon_in_file(self._driver_dir).close()  # which would go on with the file that is gone
            shutil.rmtree(self.data_dir)
            shutil.copytree(copy, self.data_dir)

        try:
            yield bring_back
        finally:
            shutil.rmtree(copy)

    def alive(self) -> str | None:
        """Which run of the victim this is, when it is on: seen by a driver of our own, while no agent runs."""
        if not self.cluster_id:
            return None
        seen = self._look().observe(VICTIM)
        on = bool(seen) and seen[0].condition in ALIVE
        return self.subject.incarnation(self.cluster_id, VICTIM) if on else None

    def things(self) -> list[str]:
        """What the daemon and the disk have of our machines, in words that are the same on every stage."""
        self._look()  # the subject learns where to look
        root, cluster = str(self.data_dir.parent), self.cluster_id[:8]
        return sorted(each.replace(root, "").replace(cluster, "") for each in self.subject.leftovers(self.cluster_id))

    def check(self, agent: Agent, things: list[str]) -> None:
        """Nothing is lost or orphaned: the rows and what is there are as they should be."""
        assert agent.audit() == []
        assert self.things() == things
        assert {machine.id for machine in agent.machines.list()} <= {VICTIM, BYSTANDER}
        self._check_images(agent)
        self.check_port(agent)

    def check_others(self) -> None:
        """The machine beside the victim has run on all the time, and nobody has touched those that are not ours."""
        assert self.subject.incarnation(self.cluster_id, BYSTANDER) == self._incarnation
        assert self.subject.foreign_changes() == []

    def autostarts(self) -> bool:
        """Whether what serves all machines of this agent comes back by itself when the host was rebooted."""
        if self.type != "libvirt":
            return True
        lists = [["virsh", "-c", "qemu:///system", kind, "--autostart", "--name"] for kind in ("net-list", "pool-list")]
        words = [subprocess.run(each, capture_output=True, text=True, check=True).stdout.split() for each in lists]
        return all(f"garbi-{self.cluster_id[:8]}" in names for names in words)

    def drop(self) -> None:
        """Take the agent off the host, and see that nothing is left of it."""
        try:
            assert self.subject.foreign_changes() == []
            self.subject.remove_foreign()
            if self.data_dir.exists():
                purge(self.settings(), print)
            assert not self.data_dir.exists()
            assert self._rules() == ""
            if self.type != "fake":  # whose daemon went with the directory
                assert self.subject.footprint(self.cluster_id) + self.subject.leftovers(self.cluster_id) == []
        finally:
            self._driver_dir.mkdir(parents=True, exist_ok=True)
            self.subject.remove_foreign()
            self.subject.sweep(self.cluster_id)
            if self._looker is not None:
                self._looker.close()
            self.subject.close()

    def settings(self, operation: str = "") -> Settings:
        """The settings of the agent, those that the operation changes included."""
        known = OPERATIONS.get(operation)
        changes: Mapping[str, Any] = known.settings if known else {}
        fake = {"persist": "true", **(known.fake if known else {})}
        return Settings(data_dir=self.data_dir, mem_limit_mib=4096, drivers={"fake": fake}, **changes)

    def _learn_cluster(self) -> None:
        """The id of the cluster, where only a process that is gone was its agent."""
        with contextlib.suppress(sqlite3.OperationalError):  # it died before it had a database, or took all of it away
            path = f"file:{self.data_dir / DATABASE}?mode=ro"
            with contextlib.closing(sqlite3.connect(path, uri=True)) as connection:
                row = connection.execute("SELECT value FROM meta WHERE key = 'cluster_id'").fetchone()
                self.cluster_id = row[0] if row else ""

    def _look(self) -> Driver:
        if self._looker is None:
            self._looker = self.subject.make_driver(self.cluster_id, self._driver_dir)
        return self._looker

    def _check_images(self, agent: Agent) -> None:
        """Each row has its content, and there is no other, here or at the daemon."""
        digests = {image.sha256 for image in agent.images.list()}
        library = self.data_dir / "images"
        assert {path.name for path in (library / "sha256").iterdir()} == digests
        assert list((library / "incoming").iterdir()) == []
        copies = " ".join(self.subject.footprint(self.cluster_id))
        assert [
            each.sha256 for each in self.scene.images.values() if each.sha256 not in digests and each.sha256 in copies
        ] == []

    def check_port(self, agent: Agent) -> None:
        """The victim's port is held while it is there, leads to it while it runs, and is anybody's when it is gone."""
        victim = find(agent, VICTIM)
        if victim is None:
            assert is_free(self.scene.port)
        if isinstance(self._look(), NetworkAttached):
            led = victim is not None and victim.state in ("running", "paused")
            eventually(f"port {self.scene.port} led: {led}", lambda: self._is_led() is led, PATIENCE_S)
        if victim is not None and victim.state == "running" and self.subject.serves_page:
            eventually(f"a page on port {self.scene.port}", lambda: serves_page(self.scene.port), PATIENCE_S)

    def _is_led(self) -> bool:
        return f". {self.scene.port} :" in self._rules()

    def _rules(self) -> str:
        """The agent's table of rules, if it has one."""
        command = ["nft", "list", "table", "inet", f"garbi_{self.cluster_id[:8]}"]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout


@contextlib.contextmanager
def stage_of(subject_name: str) -> Iterator[Stage]:
    """A stage of its own, which is gone afterwards, whatever happened."""
    root = new_place("garbi-crash-")
    try:
        stage = Stage(subject_name, root)
        try:
            yield stage
        finally:
            stage.drop()
    finally:
        shutil.rmtree(root, ignore_errors=True)


def numbered(places: list[str]) -> list[str]:
    """The same places, each with the number of the visit: NAME@N."""
    return [f"{name}@{places[: index + 1].count(name)}" for index, name in enumerate(places)]


def is_free(port: int) -> bool:
    """Whether anybody could listen there; connections that ended do not count."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("0.0.0.0", port))
        except OSError:
            return False
    return True


def serves_page(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
            return bool(answer.read())
    except OSError:
        return False
