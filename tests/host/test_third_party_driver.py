"""Follows docs/adding-a-driver.md with a small driver in a distribution of its own, built and installed for the test."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from tests.conformance.subjects import MORE

from garbi.base.clock import SystemClock
from garbi.base.errors import DriverUnavailable
from garbi.hyper.drivers.protocol import DriverContext
from garbi.hyper.drivers.registry import GROUP, DriverRegistry

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "tests/third_party_driver"
PAGE = ROOT / "docs/adding-a-driver.md"

Run = Callable[..., str]

FIND = """
import json, pathlib, sys
from garbi.base.clock import SystemClock
from garbi.hyper.drivers.protocol import DriverContext
from garbi.hyper.drivers.registry import DriverRegistry, abilities

registry = DriverRegistry(lambda name: DriverContext("0" * 32, pathlib.Path(sys.argv[1]), SystemClock()))
info = registry.info("notes")
print(json.dumps([registry.names(), info.available, info.version, abilities(registry.get("notes"))]))
"""

WHOLE_LIFE = """
import json, pathlib, sys
from garbi import hyper
from garbi.hyper.model.machine import MachineSpec, Wish

agent = hyper.open_agent(data_dir=pathlib.Path(sys.argv[1]))
states = []
try:
    machine_id = agent.machines.add(MachineSpec(image="any", type="notes", id="shopping")).id
    states.append(agent.machines.wait_settled(machine_id, 120).state)
    for wish in (Wish.STOPPED, Wish.RUNNING):
        agent.machines.wish(machine_id, wish)
        states.append(agent.machines.wait_settled(machine_id, 120).state)
    agent.machines.remove(machine_id)
    agent.machines.wait_settled(machine_id, 120)
    states.append([machine.id for machine in agent.machines.list()])
finally:
    agent.close()
print(json.dumps(states))
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs Python in a fresh process where the distribution is installed beside Garbi."""
    build, site = tmp_path_factory.mktemp("build"), tmp_path_factory.mktemp("site")
    for name in ("pyproject.toml", "garbi_notes.py"):
        shutil.copy(SOURCE / name, build / name)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-index"]
    subprocess.run([*pip, "--no-deps", "--no-build-isolation", "--target", site, build], check=True, timeout=300)
    path = os.pathsep.join(map(str, (site, ROOT, ROOT / "src")))

    def run(*arguments: object, **environment: str) -> str:
        done = subprocess.run(
            [sys.executable, *map(str, arguments)],
            env=os.environ | {"PYTHONPATH": path} | environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def test_an_installed_driver_is_found_by_its_entry_point(run: Run, tmp_path: Path) -> None:
    names, available, version, abilities = json.loads(run("-c", FIND, tmp_path))
    assert {"docker", "fake", "libvirt", "notes"} <= set(names)
    assert (available, version, abilities) == (True, "1", ["any-image"])


def test_an_installed_driver_takes_a_machine_through_its_life_in_the_agent(run: Run, tmp_path: Path) -> None:
    assert json.loads(run("-c", WHOLE_LIFE, tmp_path)) == ["running", "stopped", "running", []]


def test_the_suite_of_the_verbs_passes_for_an_installed_driver(run: Run) -> None:
    suite = "tests/conformance/test_driver_conformance.py"
    told = run(
        *("-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "notes", suite),
        **{MORE: "notes=tests.third_party_driver.notes_subject:NotesSubject"},
    )
    passed = re.search(r"(\d+) passed", told)
    assert passed is not None
    assert int(passed[1]) >= 20


def test_a_driver_that_cannot_be_imported_says_why_and_hinders_no_other(tmp_path: Path) -> None:
    broken = EntryPoint("broken", "a_module_that_is_missing:Driver", GROUP)
    fake = EntryPoint("fake", "garbi.hyper.drivers.fake:FakeDriver", GROUP)
    registry = DriverRegistry(lambda name: DriverContext("0" * 32, tmp_path, SystemClock()), [broken, fake])
    assert registry.names() == ["broken", "fake"]
    info = registry.info("broken")
    assert not info.available
    assert "a_module_that_is_missing" in info.reason
    with pytest.raises(DriverUnavailable):
        registry.get("broken")
    assert registry.info("fake").available


@pytest.mark.parametrize("name", ["pyproject.toml", "garbi_notes.py"])
def test_the_page_shows_the_files_that_were_tested(name: str) -> None:
    shown = re.findall(r"^```\w+\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert (SOURCE / name).read_text(encoding="utf-8") in shown
