"""Kept disks of real containers and virtual machines: what the documentation says of them, and SIGKILL on the way."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.agent.conftest import data_dir as data_dir
from tests.conformance.bench import eventually

from garbi.base.token import TOKEN_FILE, read_secret
from garbi.hyper.main import open_agent
from garbi.hyper.model.event import EventKind
from garbi.hyper.model.image import ImageType
from garbi.hyper.model.machine import MachineSpec
from garbi.hyper.purge import purge
from garbi.hyper.settings import Settings
from garbi.hyper_api.client import HyperClient

BIN = Path(sys.executable).parent
PAGE = Path(__file__).parents[2] / "docs/kept-disks.md"
PATIENCE_S = 120.0
KEEP_S = 3600
DELAYS_S = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4)
PLACE = "512k"
"""Where on a disk a test writes a pattern."""

pytestmark = [pytest.mark.root, pytest.mark.docker, pytest.mark.libvirt]


@dataclass
class Host:
    """`hyper serve` in a process of its own, which may be killed and started again, and a command line for it."""

    data_dir: Path
    environment: dict[str, str] = field(default_factory=dict)
    _program: subprocess.Popen[str] | None = None

    def serve(self) -> None:
        """Start the agent, as the one after an agent that was killed."""
        command = [str(BIN / "hyper"), "serve", "--port", "0", "--data-dir", str(self.data_dir)]
        self._program = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._program.stdout is not None
        found = re.search(r"http://\S+", self._program.stdout.readline())
        assert found
        path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
        token_file = self.data_dir / TOKEN_FILE
        self.client = HyperClient(found.group(), token=read_secret(token_file))
        identity = {"GARBI_HYPER_URL": found.group(), "GARBI_HYPER_TOKEN_FILE": str(token_file), "PATH": path}
        self.environment = {**os.environ, **identity}

    def kill(self, after_s: float = 0.0) -> None:
        """Kill the agent, so many seconds from now."""
        if self._program is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._program.wait(after_s)
            self._program.kill()
            self._program.communicate()
            self._program = None

    @property
    def mark(self) -> str:
        return str(self.client.host()["cluster_id"])[:8]

    def sh(self, script: str) -> str:
        """What a script prints that must succeed, in the data directory's neighbour."""
        done = subprocess.run(
            ["sh", "-euc", script],
            env=self.environment,
            cwd=self.data_dir.parent,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
        return done.stdout

    def documented(self, title: str) -> str:
        """The example of the page that begins with that comment, with the names that are this test's own."""
        blocks = re.findall(r"```sh\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
        (block,) = [block for block in blocks if block.startswith(f"# {title}\n")]
        own = {"1a2b3c4d": self.mark, "/var/lib/garbi/hyper": str(self.data_dir), "-rescued": f"-rescued-{self.mark}"}
        for shown, real in own.items():
            block = block.replace(shown, real)
        return str(block)


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    root = Path(tempfile.mkdtemp(prefix="garbi-kept-", dir="/var/tmp"))
    root.chmod(0o711)
    host = Host(root / "data")
    try:
        host.serve()
        host.sh("hyper images build tiny")
        yield host
    finally:
        host.kill()
        subprocess.run([BIN / "hyper", "purge", "--yes", "--data-dir", host.data_dir], check=True, timeout=PATIENCE_S)
        shutil.rmtree(root)


def test_what_the_page_says_gets_the_data_out_of_a_container(host: Host) -> None:
    host.sh("hyper add tiny-docker -i web -m 64")
    host.sh(f"docker exec garbi-{host.mark}-web sh -c 'echo precious > /www/index.html'")
    host.sh(f"hyper rm web --keep-s {KEEP_S}")
    try:
        host.sh(host.documented("container"))
        assert host.sh("cat rescued.html") == "precious\n"
        assert host.sh(f"docker exec garbi-{host.mark}-web cat /www/index.html") == "precious\n"
        assert host.client.audit() == []
    finally:
        host.sh("hyper rm web; hyper kept rm web.0; hyper images rm $(hyper images ls -q | grep rescued)")
        host.sh(f"docker image rm web-rescued-{host.mark}")
    assert host.sh(f"docker ps -aq --filter name=garbi-kept-{host.mark}") == ""


def test_what_the_page_says_gets_the_data_out_of_a_virtual_machine(host: Host) -> None:
    host.sh("hyper add tiny -i db -m 128 --no-start")
    disk = host.data_dir / "drivers/libvirt/pool/db.qcow2"
    host.sh(f"qemu-io -f qcow2 -c 'write -P 0xab {PLACE} 64k' {disk}")
    host.sh(f"hyper rm db --keep-s {KEEP_S}")
    assert not disk.exists()
    try:
        (kept,) = host.client.kept.list()
        assert kept["place"] == str(disk.with_name("db.0.kept"))
        refused = subprocess.run(
            [BIN / "hyper", "images", "rm", "tiny"], env=host.environment, capture_output=True, text=True, check=False
        )
        assert "kept disks db.0" in refused.stderr
        host.sh(host.documented("virtual machine"))
        assert "Pattern" not in host.sh(
            f"qemu-io -r -f qcow2 -c 'read -P 0xab {PLACE} 64k' db-rescued-{host.mark}.qcow2"
        )
        information = host.sh(f"qemu-img info --output json db-rescued-{host.mark}.qcow2")
        assert "backing-filename" not in json.loads(information)
        assert host.client.machines.get("db")["state"] == "running"
    finally:
        host.sh("hyper rm db; hyper kept rm db.0; hyper images rm $(hyper images ls -q | grep rescued)")
    assert list(disk.parent.iterdir()) == []


def test_a_disk_is_not_lost_when_the_agent_is_killed_while_it_keeps_it(host: Host) -> None:
    for number, delay_s in enumerate(DELAYS_S):
        name = f"box-{number}"
        host.sh(f"hyper add tiny-docker -i {name} -m 64")
        host.sh(f"docker exec garbi-{host.mark}-{name} sh -c 'echo {number} > /precious'")
        host.client.machines.remove(name, wait_s=0, keep_s=KEEP_S)
        host.kill(delay_s)
        host.serve()
        eventually(f"{name} is gone", lambda name=name: is_gone(host, name), PATIENCE_S)  # type: ignore[misc]
        (kept,) = host.client.kept.list()
        assert kept["name"] == f"{name}.0"
        assert host.sh(f"docker cp {kept['place']}:/precious - | tar -xO") == f"{number}\n"
        assert host.client.audit() == []
        host.client.kept.remove(kept["name"])
        assert host.sh(f"docker ps -aq --filter label=garbi.machine={name}") == ""


def test_a_driver_that_keeps_no_disks_removes_the_machine_and_the_event_says_so(data_dir: Path) -> None:
    disk = data_dir / "disk.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", disk, "16M"], check=True)
    agent = open_agent(Settings(data_dir=data_dir, drivers={"libvirt": {"uri": "test:///default"}}))
    try:
        agent.images.add("disk", ImageType.QCOW2, [disk.read_bytes()])
        agent.machines.add(MachineSpec(image="disk", id="web", mem=64))
        agent.machines.wait_settled("web", PATIENCE_S)
        agent.machines.remove("web", KEEP_S)
        eventually("it is gone", lambda: agent.machines.wait_settled("web", 1.0) is None, PATIENCE_S)
        last = agent.events.since(0, 1000)[-1]
        assert (last.kind, agent.kept.list()) == (EventKind.REMOVED, [])
        assert last.reason.startswith("its disk is not kept: ")
        assert agent.audit() == []
    finally:
        agent.close()
        purge(agent.settings, print)
        data_dir.mkdir()


def is_gone(host: Host, name: str) -> bool:
    return host.client.machines.list({"id": name}) == []
