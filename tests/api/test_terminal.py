"""What a person at a terminal sees: the shell with completion and history, tables, the state while waiting."""

from __future__ import annotations

import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pexpect
import pytest
from tests.api.conftest import HYPER, LIMIT_S, Server, StartServer

PROMPT = "hyper>"
NEW_PROMPT = "\x1b[?2004h"
"""What a terminal is told before a prompt appears, and not when it is drawn again."""

ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[()][A-Z0-9]|\x1b[=>78]|\r")

Spawn = Callable[..., pexpect.spawn]


@pytest.fixture
def spawn(tmp_path: Path) -> Iterator[Spawn]:
    """Starts hyper on a terminal of its own, with a home of its own."""
    running: list[pexpect.spawn] = []

    def start(server: Server, *arguments: str) -> pexpect.spawn:
        here = {"HOME": str(tmp_path), "TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1"}
        environment = {**server.environment, **here}
        environment.pop("XDG_STATE_HOME", None)
        child = pexpect.spawn(
            str(HYPER),
            list(arguments),
            env=environment,
            timeout=LIMIT_S,
            encoding="utf-8",
            dimensions=(40, 160),
            use_poll=True,
        )
        running.append(child)
        return child

    yield start
    for child in running:
        child.close(force=True)


def read_all(child: pexpect.spawn) -> str:
    child.expect(pexpect.EOF)
    child.close()
    return ESCAPES.sub("", child.before)


def test_the_shell_runs_commands_until_exit(server: Server, spawn: Spawn) -> None:
    shell = spawn(server)
    shell.expect(PROMPT)
    shell.sendline("add any -t fake -i web")
    shell.expect("web is running")
    shell.expect(PROMPT)
    shell.sendline("nonsense")
    shell.expect("No such command")
    shell.expect(PROMPT)
    shell.sendline("stop nobody")
    shell.expect("no machine has the id nobody")
    shell.expect(PROMPT)
    shell.sendline("help")
    shell.expect("Commands:")
    shell.expect(PROMPT)
    shell.sendline("exit")
    shell.expect(pexpect.EOF)
    shell.close()
    assert shell.exitstatus == 0


def test_the_shell_is_left_by_the_end_of_input_and_not_by_an_interruption(server: Server, spawn: Spawn) -> None:
    shell = spawn(server)
    shell.expect(PROMPT)
    shell.send("half a line")
    shell.expect("half a line")
    shell.sendcontrol("c")
    shell.expect(re.escape(NEW_PROMPT))
    shell.expect(PROMPT)
    shell.sendcontrol("d")
    shell.expect(pexpect.EOF)
    shell.close()
    assert shell.exitstatus == 0


def test_tab_completes_commands_and_ids_that_the_server_has(server: Server, web: dict[str, Any], spawn: Spawn) -> None:
    shell = spawn(server)
    shell.expect(PROMPT)
    shell.send("sho\t")
    shell.expect("show ?")
    shell.send(" w\t")
    shell.expect("eb")
    shell.sendline("")
    shell.expect("image_sha256")
    shell.expect(PROMPT)
    shell.sendline("exit")


def test_the_shell_remembers_what_was_typed_for_its_user_only(server: Server, spawn: Spawn, tmp_path: Path) -> None:
    first = spawn(server)
    first.expect(PROMPT)
    first.sendline("drivers -q")
    first.expect("libvirt")
    first.expect(PROMPT)
    first.sendline("exit")
    first.expect(pexpect.EOF)
    history = tmp_path / ".local/state/garbi/hyper_history"
    assert "drivers -q" in history.read_text()
    assert stat.S_IMODE(history.stat().st_mode) == 0o600
    second = spawn(server)
    second.expect(PROMPT)
    second.send("\x1b[A\x1b[A\r")
    second.expect("libvirt")
    second.expect(PROMPT)
    second.sendline("exit")


def test_a_terminal_gets_a_table(server: Server, web: dict[str, Any], spawn: Spawn) -> None:
    table = read_all(spawn(server, "list")).splitlines()
    assert table[0].split() == ["ID", "TYPE", "IMAGE", "STATE", "ADDRESS", "PORTS", "MEM", "CPUS"]
    assert table[1].split() == ["web", "fake", "any", "running", "256", "1"]
    assert "\t" not in table[1]


def test_the_state_is_shown_while_somebody_waits(start_server: StartServer, spawn: Spawn) -> None:
    server = start_server({"add_delay_s": "3"})
    child = spawn(server, "add", "any", "-t", "fake", "-i", "web")
    child.expect("web: creating")
    child.expect("web is running")
    child.expect(pexpect.EOF)


def test_an_interruption_while_waiting_leaves_the_machine_to_the_host(start_server: StartServer, spawn: Spawn) -> None:
    server = start_server({"add_delay_s": "10"})
    child = spawn(server, "add", "any", "-t", "fake", "-i", "web")
    child.expect("web: creating")
    child.sendcontrol("c")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 130
    assert server.client.machines.get("web", wait_s=60)["state"] == "running"


def test_an_upload_shows_a_bar(server: Server, spawn: Spawn, tmp_path: Path) -> None:
    content = tmp_path / "large.raw"
    with content.open("wb") as file:
        file.truncate(200 * 2**20)
    child = spawn(server, "images", "add", "large", str(content))
    child.expect("MB")
    child.expect("large is here \\(raw, 200.0 MiB\\)")
    child.expect(pexpect.EOF)


def test_doctor_says_line_by_line_what_it_found(server: Server, spawn: Spawn) -> None:
    lines = [line for line in read_all(spawn(server, "doctor")).splitlines() if line.strip()]
    assert any(re.match(r"(ok|warn|fail) +docker +", line) for line in lines)
