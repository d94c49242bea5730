"""For the attacks: an agent on the real daemons of this host, with its REST service, and servers with fake machines."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.api.conftest import (
    HYPER,
    LIMIT_S,
    Server,
    client_of,
    data_dir,
    server,
    serving,
    start_server,
    still_server,
    web,
)
from tests.host.agent.host_agent import HostAgent, TinyImages

from garbi.hyper_api.client import HyperClient

__all__ = ["data_dir", "server", "start_server", "still_server", "web"]

CANARY = b"canary-of-the-host-7d1f0c"


@contextmanager
def program(
    data_dir: Path, *prefix: str, cwd: Path | None = None, umask: int = 0o022
) -> Iterator[tuple[int, HyperClient]]:
    """`hyper serve` as a program of its own, after the words of `prefix`; gives its process id and a client of it."""
    command = [*prefix, str(HYPER), "serve", "--port", "0", "--data-dir", str(data_dir)]
    agent = subprocess.Popen(command, cwd=cwd, umask=umask, stdout=subprocess.PIPE, text=True)
    try:
        assert agent.stdout is not None
        found = re.search(r"http://\S+", agent.stdout.readline())
        assert found is not None
        yield agent.pid, client_of(found.group(), data_dir)
        agent.terminate()
        assert agent.wait(LIMIT_S) == 0
    finally:
        agent.kill()
        agent.communicate()


@pytest.fixture(scope="session")
def host() -> Iterator[HostAgent]:
    """An agent on this host's libvirt and Docker; afterwards nothing of it is left, which is checked."""
    place = Path(tempfile.mkdtemp(prefix="garbi-security-", dir="/var/tmp"))
    place.chmod(0o711)  # QEMU's user passes through
    made = HostAgent(TinyImages(place, place), place / "data", limits={"stop_deadline_s": 0.2})
    try:
        yield made
        made.discard()
    finally:
        shutil.rmtree(place, ignore_errors=True)


@pytest.fixture(scope="session")
def front(host: HostAgent) -> Iterator[Server]:
    """The REST service of that agent."""
    with serving(host.agent, 15.0) as made:
        yield made


@pytest.fixture
def canary(host: HostAgent) -> Iterator[Path]:
    """A file of the host that everybody may read, and no machine may."""
    path = host.data_dir.with_name("canary")
    path.write_bytes(CANARY.ljust(1 << 20, b"."))
    yield path
    path.unlink()
