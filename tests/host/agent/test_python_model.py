"""`from garbi import hyper`: the Python model in a process of its own, as a program would use it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.host.agent.host_agent import TinyImages, open_directory, page, ports, traces_of

from garbi.hyper.purge import purge
from garbi.hyper.settings import Settings

pytestmark = [pytest.mark.root, pytest.mark.docker]

LIFE = """
import json, sys
from garbi import hyper
from garbi.base.errors import AlreadyInState, NotFound

image, type, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
names = [driver.info.name for driver in hyper.list_drivers()]
machine = hyper.add_machine(
    {"image": image, "type": type, "id": "m1", "mem": 64, "ports": [{"node_port": port, "machine_port": 80}]}
)
states = [machine.state]
states.append(hyper.stop_machine("m1").state)
try:
    hyper.stop_machine("m1")
except AlreadyInState as error:
    states.append(error.code)
states.append(hyper.start_machine("m1").state)
hyper.add_machine({"image": image, "type": type, "id": "m2", "mem": 64, "state": "stopped"})
listed = [each.id for each in hyper.list_machines({"state": "running"})], [each.id for each in hyper.list_machines()]
hyper.remove_machine("m2")
try:
    hyper.remove_machine("m2")
except NotFound as error:
    states.append(error.code)
print(json.dumps([names, states, listed]))
"""

LATER = """
import json
from garbi import hyper
found = [[each.id, each.state] for each in hyper.list_machines()]
hyper.remove_machine("m1")
print(json.dumps([found, len(hyper.list_machines())]))
"""

ADD_IMAGE = """
import sys
from garbi import hyper
from garbi.hyper.model.image import ImageType
agent = hyper.open_agent()
agent.images.add("tiny", ImageType.DOCKER, [open(sys.argv[1], "rb").read()])
agent.close()
"""


@pytest.fixture
def home() -> Iterator[Path]:
    """The data directory of programs run by `run`; what they left is taken away."""
    place = open_directory()
    yield place / "data"
    if (place / "data").exists():
        purge(_settings(place / "data"), lambda _: None)
    shutil.rmtree(place)


def _environment(home: Path) -> dict[str, str]:
    garbi = {"GARBI_HYPER_DATA_DIR": str(home), "GARBI_DRIVER_FAKE_PERSIST": "true"}
    return {**os.environ, "XDG_DATA_HOME": "/nonexistent", **garbi}


def _settings(home: Path) -> Settings:
    return Settings.from_environment(_environment(home))


def run(home: Path, program: str, *arguments: str) -> str:
    words = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(words, env=_environment(home), capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize("type_name", ["fake", "docker"])
def test_a_program_makes_stops_starts_lists_and_removes_machines_and_a_later_one_finds_them(
    home: Path, images: TinyImages, type_name: str
) -> None:
    (port,) = ports(80)
    if type_name == "docker":
        run(home, ADD_IMAGE, str(images.container))
    names, states, listed = json.loads(run(home, LIFE, "tiny", type_name, str(port.node_port)))
    assert {"docker", "fake", "libvirt"} <= set(names)
    assert states == ["running", "stopped", "already-in-state", "running", "not-found"]
    assert listed == [["m1"], ["m1", "m2"]]
    if type_name == "docker":
        assert "Hello from m1" in page(port)  # the program has ended, its machine has not
    assert json.loads(run(home, LATER)) == [[["m1", "running"]], 0]


def test_what_a_program_made_can_be_purged(home: Path, images: TinyImages) -> None:
    run(home, ADD_IMAGE, str(images.container))
    (port,) = ports(80)
    run(home, LIFE, "tiny", "docker", str(port.node_port))
    cluster = (
        subprocess.run(
            [
                "docker",
                "ps",
                "--filter",
                "label=garbi.machine=m1",
                "--format",
                "{{.Names}}",
                "--filter",
                f"publish={port.node_port}",
            ],
            capture_output=True,
            text=True,
            check=True,
        )
        .stdout.strip()
        .split("-")[1]
    )
    assert traces_of(cluster)
    purge(_settings(home), lambda _: None)
    assert traces_of(cluster) == []
