"""The tutorial, as a newcomer types it: every command of the page, in its order, against three bare hosts."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from tests.free_ports import free_port

from .hosts import Host, Lab

pytestmark = [pytest.mark.root, pytest.mark.docker, pytest.mark.libvirt, pytest.mark.timeout(1800)]

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/tutorial.md"
NAMES = ("lab1", "lab2", "lab3")
ANSWERS = """\
server=$!
until iaas node ls >/dev/null 2>&1; do kill -0 $server; read -rt 0.2 <> <(:) || true; done
"""


def commands() -> list[str]:
    """What the page tells its reader to type."""
    blocks = re.findall(r"^```console\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.splitlines()]
    assert all(line.startswith("$ ") for line in lines)
    return [line.removeprefix("$ ") for line in lines]


@pytest.fixture(scope="module")
def three_hosts(lab: Lab, packaged_image: str) -> list[Host]:
    return [lab.add_host(packaged_image) for _ in NAMES]


@pytest.fixture
def home(lab: Lab, tmp_path: Path) -> Path:
    """The home of the reader: the key that opens the hosts is there."""
    directory = tmp_path / "home"
    (directory / ".ssh").mkdir(mode=0o700, parents=True)
    (directory / ".ssh/id_ed25519").write_text(lab.key.read_text())
    (directory / ".ssh/id_ed25519").chmod(0o600)
    return directory


@pytest.fixture
def environment(home: Path, tmp_path: Path) -> dict[str, str]:
    port = free_port()
    return {
        **os.environ,
        "HOME": str(home),
        "GARBI_IAAS_PORT": str(port),
        "GARBI_IAAS_URL": f"http://127.0.0.1:{port}",
        "GARBI_IAAS_DATA_DIR": str(tmp_path / "iaas"),
    }


def test_every_command_of_the_tutorial_works_on_three_real_hosts(
    three_hosts: list[Host], environment: dict[str, str], tmp_path: Path
) -> None:
    assert len(commands()) > 20
    script = "\n".join(_typed(command, three_hosts) for command in commands())
    with _shell(f"set -euo pipefail\n{script}\n", environment, tmp_path / "output") as output:
        assert re.search(r"^lab1\tready\t.*\nlab2\tready\t.*\nlab3\tready\t", output, re.MULTILINE), output
        assert "Hello from" in output
        assert re.search(r"\tdb\tlibvirt\ttiny\tlab1\trunning\t", output), output
        *_, last = output.split("@ iaas node ls\n")
        assert "lab2" in last
        assert "lab3" not in last


def _typed(command: str, hosts: list[Host]) -> str:
    """A command with the addresses and keys of these hosts, announced, and waited for where it serves."""
    for number, (name, host) in enumerate(zip(NAMES, hosts, strict=True), start=1):
        command = command.replace(f"192.0.2.1{number}", host.address).replace(f"SHA256:key-of-{name}", host.host_key)
    quoted = command.replace("'", "'\\''")
    return f"echo '@ {quoted}'\n{command}\n{ANSWERS if command.endswith('&') else ''}"


@contextmanager
def _shell(script: str, environment: dict[str, str], log: Path) -> Iterator[str]:
    """Run a script and give what it wrote; what it left in the background ends with the block."""
    with log.open("wb") as file:
        command = ["bash", "-c", script]
        streams = {"stdin": subprocess.DEVNULL, "stdout": file, "stderr": file}
        process = subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True, **streams)
    try:
        status = process.wait()
        output = log.read_text(errors="replace")
        assert status == 0, output
        yield output
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
