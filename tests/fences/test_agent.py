"""A fence agent of Debian's switches the host of a node off: what it is told and how, what proves something, what does not."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from garbi.base.errors import FenceFailed
from garbi.iaas.fences.agent import AgentFence
from garbi.iaas.fences.protocol import Scope
from garbi.iaas.model.power import Power

from .nodes import a_node

SECRET = "s3cret-of-the-device"
AGENT = """#!/usr/bin/python3
# speaks as the API of fence agents asks for: options on standard input, what came of it as the exit status
import os, pathlib, sys
here = pathlib.Path(__file__).parent
told = dict(line.rstrip("\\n").split("=", 1) for line in sys.stdin)
action, shown = told["action"], " ".join([*sys.argv, *os.environ.values()])
with open(here / "heard", "a") as heard:
    print(action, sys.argv[1:], sorted(told), "seen" if told["password"] in shown else "unseen", file=heard)
if told.get("password") != (here / "password").read_text():
    print("wrong password: " + told.get("password", ""), file=sys.stderr)
    sys.exit(1)
state = here / "state"
if action == "off":
    if (here / "broken").exists():
        print("the relay is stuck, " + told["password"], file=sys.stderr)
        sys.exit(1)
    if not (here / "lies").exists():
        state.write_text("off")
elif action == "status":
    sys.exit({"on": 0, "off": 2}.get(state.read_text(), 1))
elif action == "list":
    print("1,rack-a-1")
    print("2,rack-a-2")
elif action != "monitor":
    sys.exit(1)
"""
NODE = replace(a_node(), power=Power("fence_rack", {"ip": "192.0.2.9", "plug": "2"}, ("password",)))


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """The directory of fence agents, with one whose host is on."""
    program = tmp_path / "fence_rack"
    program.write_text(AGENT)
    program.chmod(0o755)
    tmp_path.chmod(0o755)
    (tmp_path / "state").write_text("on")
    (tmp_path / "password").write_text(SECRET)
    return tmp_path


def fence(place: Path, limit_s: float = 60.0) -> AgentFence:
    return AgentFence(place, lambda name: {"password": SECRET}, limit_s, pause_s=0.05)


def heard(place: Path) -> list[str]:
    return (place / "heard").read_text().splitlines()


def test_a_host_is_proven_off_when_its_status_says_so_after_it_was_switched_off(place: Path) -> None:
    assert fence(place).applies_to(NODE) is None
    proof = fence(place).prove(NODE, threading.Event())
    assert (proof.by, proof.scope, SECRET in proof.words) == ("fence-agent", Scope.ALL, False)
    assert (place / "state").read_text() == "off"
    assert [line.split()[0] for line in heard(place)] == ["off", "status"]
    for line in heard(place):  # nothing is an argument, and no secret is where others see it
        assert line.endswith("[] ['action', 'ip', 'password', 'plug'] unseen")
    assert fence(place).prove(NODE, threading.Event())
    assert [line.split()[0] for line in heard(place)][2:] == ["off", "status"]


@pytest.mark.parametrize("trouble", ["lies", "broken"])
def test_what_was_to_be_off_and_is_not_proves_nothing(place: Path, trouble: str) -> None:
    (place / trouble).touch()
    with pytest.raises(FenceFailed, match="its status is on") as failure:
        fence(place, limit_s=1.5 if trouble == "lies" else 60.0).prove(NODE, threading.Event())
    assert SECRET not in str(failure.value)


def test_a_status_that_is_none_proves_nothing(place: Path) -> None:
    (place / "lies").touch()
    (place / "state").write_text("perhaps")
    with pytest.raises(FenceFailed, match="not known"):
        fence(place, limit_s=1.5).prove(NODE, threading.Event())


def test_a_trial_switches_nothing_and_says_what_the_plug_is_called(place: Path) -> None:
    tried = fence(place).try_out(NODE, True, threading.Event())
    assert (tried.agent, tried.status, tried.words) == ("fence_rack", "on", "it calls plug 2 rack-a-2")
    assert [line.split()[0] for line in heard(place)] == ["status", "monitor", "list"]
    assert (place / "state").read_text() == "on"


def test_a_trial_tells_a_plug_of_another_host(place: Path) -> None:
    (place / "state").write_text("off")
    with pytest.raises(FenceFailed, match="plug of another host"):
        fence(place).try_out(NODE, True, threading.Event())
    assert fence(place).try_out(NODE, False, threading.Event()).status == "off"
    missing = replace(NODE, power=Power("fence_rack", {"plug": "7"}, ("password",)))
    with pytest.raises(FenceFailed, match="no plug 7: it has 1, 2"):
        fence(place).try_out(missing, False, threading.Event())


def test_a_wrong_password_is_told_without_it(place: Path) -> None:
    (place / "password").write_text("another")
    with pytest.raises(FenceFailed, match="wrong password") as failure:
        fence(place).try_out(NODE, True, threading.Event())
    assert SECRET not in str(failure.value)


def test_what_may_not_be_run_is_not(place: Path) -> None:
    assert "iaas node set" in str(fence(place).applies_to(replace(NODE, power=None)))
    assert "cannot be read" in str(fence(place).applies_to(replace(NODE, power=Power("fence_none"))))
    (place / "fence_rack").chmod(0o777)
    assert "may be written by others" in str(fence(place).applies_to(NODE))
