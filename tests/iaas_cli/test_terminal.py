"""What a person at a terminal sees; the controller is one that answers as it is told."""

from __future__ import annotations

import re
from pathlib import Path

import pexpect

from .conftest import Spawn, Stranger, read_all
from .documents import image, machine, node, operation

PROMPT = "iaas>"
NEW_PROMPT = re.escape("\x1b[?2004h")
"""What precedes each prompt: until then a key is not yet the shell's."""


def test_the_shell_runs_commands_until_exit_and_survives_errors(stranger: Stranger, spawn: Spawn) -> None:
    stranger.tell("GET /iaas/nodes", (200, [node()]))
    shell = spawn(stranger.url)
    shell.expect(PROMPT)
    shell.sendline("node ls -q")
    shell.expect("n1")
    shell.expect(PROMPT)
    shell.sendline("nonsense")
    shell.expect("No such command")
    shell.expect(PROMPT)
    shell.sendline("vm stop nobody")
    shell.expect("nothing is here")
    shell.expect(PROMPT)
    shell.sendline("help")
    shell.expect("Commands:")
    shell.expect(PROMPT)
    shell.sendline("exit")
    shell.expect(pexpect.EOF)
    shell.close()
    assert shell.exitstatus == 0


def test_tab_completes_commands_and_what_the_controller_has(stranger: Stranger, spawn: Spawn, tmp_path: Path) -> None:
    stranger.tell("GET /iaas/nodes", (200, [node("northern")]))
    stranger.tell("GET /iaas/machines", (200, [machine("website")]))
    stranger.tell("GET /iaas/images", (200, [image("alpine")]))
    (tmp_path / "picture.qcow2").touch()
    shell = spawn(stranger.url)
    shell.expect(PROMPT)
    for typed, offered in (
        ("node sh\t", "ow ?"),
        (" nor\t", "thern"),
        ("\x15vm sto\t", "p ?"),
        (" web\t", "site"),
        ("\x15vm add al\t", "pine"),
        (" -n \t", "northern"),
        (" --strat\t", "egy"),
        ("\x15img add x ~/pic\t", "ture.qcow2"),
        ("\x15img rm \t", "alpine"),
    ):
        shell.send(typed)
        shell.expect(offered)
    shell.sendcontrol("c")
    shell.expect(NEW_PROMPT)
    shell.expect(PROMPT)
    shell.sendcontrol("d")
    shell.expect(pexpect.EOF)


def test_a_terminal_gets_tables_without_empty_columns(stranger: Stranger, spawn: Spawn) -> None:
    stranger.tell("GET /iaas/nodes", (200, [node()]))
    stranger.tell("GET /iaas/machines", (200, [machine("web")]))
    nodes = read_all(spawn(stranger.url, "node", "ls")).splitlines()
    assert nodes[0].split() == ["NAME", "STATE", "ADDRESS", "MACHINES", "MEM", "CPUS", "TYPES", "SEEN"]
    assert nodes[1].split()[:7] == ["n1", "ready", "10.0.0.5:8081", "2", "512/4096", "2/64", "docker"]
    machines = read_all(spawn(stranger.url, "vm", "ls")).splitlines()
    assert machines[0].split() == ["ID", "TYPE", "IMAGE", "NODE", "STATE", "ADDRESS", "PORTS", "MEM", "CPUS", "SEEN"]


def test_a_node_that_is_added_shows_which_task_of_how_many(stranger: Stranger, spawn: Spawn) -> None:
    stranger.tell("POST /iaas/nodes", (202, node(state="adding", operation="op1")))
    running = operation(message="install \x1b[31mpackages")
    stranger.tell("GET /iaas/operations/op1", *[(200, running)] * 50, (200, operation(state="done")))
    stranger.tell("GET /iaas/nodes/n1", (200, node()))
    child = spawn(stranger.url, "node", "add", "n1", "10.0.0.5:8081")
    child.expect(r"run on while dockerd restarts \(live-restore\)\? \[y/N\]: ")
    child.sendline("")
    child.expect("adding n1")
    child.expect("50%")
    child.expect("6/12 install packages")
    child.expect(r"n1 is ready \(10.0.0.5:8081, docker\)")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0


def test_who_adds_a_node_at_a_terminal_is_asked_about_a_docker_that_is_there(stranger: Stranger, spawn: Spawn) -> None:
    stranger.tell("POST /iaas/nodes", (202, node()))
    add = ("node", "add", "n1", "10.0.0.5:8081")
    for answer in ("", "n", "y"):
        child = spawn(stranger.url, *add)
        child.expect("live-restore")
        child.sendline(answer)
        child.expect("n1 is ready")
        child.expect(pexpect.EOF)
    for option in ("--live-restore", "--no-live-restore", "--witness"):
        assert "dockerd" not in read_all(spawn(stranger.url, *add, option))
    asked = [body.get("live_restore", False) for body in stranger.bodies("POST")]
    assert asked == [False, False, True, True, False, False]


def test_a_machine_that_is_waited_for_shows_its_image_on_the_way(stranger: Stranger, spawn: Spawn) -> None:
    pending = machine("web", state="creating", settled=False, operation="op1")
    stranger.tell("POST /iaas/machines", (202, pending))
    stranger.tell("GET /iaas/machines/web", *[(200, pending)] * 30, (200, machine("web")))
    stranger.tell("GET /iaas/operations/op1", (200, operation(message="sending tiny to n1", progress=0.42)))
    child = spawn(stranger.url, "vm", "add", "tiny")
    child.expect("web: creating: sending tiny to n1 42%")
    child.expect(r"web is running \(fake, on n1\)")
    child.expect(pexpect.EOF)


def test_many_machines_are_counted(stranger: Stranger, spawn: Spawn) -> None:
    stranger.tell("POST /iaas/machines", (201, machine("one")), (201, machine("two")), (201, machine("three")))
    seen = read_all(spawn(stranger.url, "vm", "add", "tiny", "--count", "3"))
    assert all(f"{id} is running (fake, on n1)" in seen for id in ("one", "two", "three"))


def test_an_interruption_ends_the_waiting_and_not_the_work(stranger: Stranger, spawn: Spawn) -> None:
    stranger.tell("POST /iaas/nodes", (202, node(state="adding", operation="op1")))
    stranger.tell("GET /iaas/operations/op1", (200, operation()))
    child = spawn(stranger.url, "node", "add", "n1", "10.0.0.5:8081", "--no-live-restore")
    child.expect("6/12")
    child.sendcontrol("c")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 130
    assert {each.method for each in stranger.asked} == {"POST", "GET"}


def test_an_audit_that_finds_nothing_says_so(stranger: Stranger, spawn: Spawn) -> None:
    stranger.tell("GET /iaas/audit", (200, []))
    assert "every invariant holds" in read_all(spawn(stranger.url, "audit"))
