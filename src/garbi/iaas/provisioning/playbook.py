"""Runs a playbook of ours against one host by Ansible Runner: a child process, confined, ended on cancel or when time is up."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import as_file, files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from garbi.base.child import follow, run
from garbi.iaas.provisioning import ssh
from garbi.iaas.provisioning.sandbox import INSIDE, confined
from garbi.iaas.provisioning.target import Target
from garbi.iaas.provisioning.words import clean, of_result

PLAYBOOK_TIMEOUT_S = 3600.0
EXAMINE_TIMEOUT_S = 90.0
MAX_ANSWER_BYTES = 16 << 10
MAX_NOTES = 20


class TaskFailed(Exception):
    """A task of a playbook failed: `task` names it, `words` are the host's."""

    def __init__(self, task: str, words: str) -> None:
        super().__init__(f"{task}: {words}")
        self.task = task
        self.words = words


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a playbook ended well: how many tasks changed something, and what tasks wrote for the user ("garbi: …")."""

    changed: int
    notes: tuple[str, ...]


@contextmanager
def run_directory(data_dir: Path, target: Target, known_hosts: str) -> Iterator[Path]:
    """A directory for one run, of nobody else, with what SSH needs; deleted with all that the run wrote."""
    parent = data_dir / "provisioning"
    parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix="run-", dir=parent))
    try:
        write(directory / ssh.KNOWN_HOSTS, known_hosts)
        if target.ssh.key_file is not None:
            write(directory / ssh.KEY, Path(target.ssh.key_file).read_bytes())
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def write(path: Path, content: str | bytes) -> None:
    """Write a file that only we can read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)


def examine(target: Target, directory: Path, cancelled: threading.Event) -> tuple[int, str, str]:
    """Ask the host what it is: exit status, answer, and what ssh complained of. Raises Cancelled, FileNotFoundError."""
    command = confined(ssh.examine_command(target), directory, ssh.keys_of_user(target))
    write(directory / ssh.SCRIPT, ssh.EXAMINE)
    with (directory / ssh.SCRIPT).open("rb") as script:
        ended = run(command, EXAMINE_TIMEOUT_S, cancelled, script.fileno(), max_bytes=MAX_ANSWER_BYTES)
    return ended.code, ended.output, ended.errors


def play(
    name: str,
    target: Target,
    directory: Path,
    variables: dict[str, Any],
    shown: list[Path],
    on_task: Callable[[int, str], None],
    cancelled: threading.Event,
) -> Outcome:
    """Run the playbook of that name; `on_task` is told each task as it begins. Raises TaskFailed, Cancelled."""
    write(directory / "inventory/hosts.json", json.dumps(_inventory(target, variables)))
    write(directory / "env/settings", json.dumps({"runner_mode": "subprocess", "suppress_env_files": True}))
    write(directory / "ansible.cfg", "")
    write(directory / "env/envvars", json.dumps(_environment(target)))
    with as_file(files("garbi").joinpath("playbooks")) as playbooks:
        command = [sys.executable, "-m", "ansible_runner", "run", str(INSIDE), "--json", "--omit-env-files"]
        command += [
            "--project-dir",
            str(playbooks),
            "--playbook",
            f"{name}.yml",
            "--inventory",
            "/garbi/inventory/hosts.json",
        ]
        reader = _Reader(on_task, (target.token,))
        argv = confined(command, directory, [*shown, playbooks, *ssh.keys_of_user(target)])
        code, errors = follow(argv, subprocess.DEVNULL, PLAYBOOK_TIMEOUT_S, cancelled, reader.read)
    return reader.outcome(code, errors)


def count_tasks(name: str) -> int:
    """How many tasks a playbook of ours has: each begins a line of a role's file with "- name:"."""
    playbooks = files("garbi").joinpath("playbooks")
    roles = re.findall(r"^    - ([a-z_]+)$", playbooks.joinpath(f"{name}.yml").read_text(), re.MULTILINE)
    return sum(len(re.findall(r"^- name:", _tasks(playbooks, role), re.MULTILINE)) for role in roles)


def _tasks(playbooks: Traversable, role: str) -> str:
    return playbooks.joinpath("roles", role, "tasks", "main.yml").read_text()


def _inventory(target: Target, variables: dict[str, Any]) -> dict[str, Any]:
    """Every key is fixed, every value was checked: nothing in it can be read as a template or as an option."""
    key = {"ansible_ssh_private_key_file": str(INSIDE / ssh.KEY)} if target.ssh.key_file is not None else {}
    host = {
        "ansible_host": target.host,
        "ansible_port": target.ssh.port,
        "ansible_user": target.ssh.user,
        "ansible_connection": "ssh",
        "ansible_python_interpreter": "/usr/bin/python3",
        **key,
        **variables,
    }
    return {"all": {"hosts": {"node": host}}}


def _environment(target: Target) -> dict[str, str]:
    control = ["-o", "ControlMaster=auto", "-o", "ControlPersist=60s", "-o", f"ControlPath={INSIDE}/%C"]
    return {
        "ANSIBLE_CONFIG": str(INSIDE / "ansible.cfg"),
        "ANSIBLE_HOME": str(INSIDE / "ansible"),
        "ANSIBLE_LOCAL_TEMP": str(INSIDE / "ansible/tmp"),
        "ANSIBLE_REMOTE_TEMP": "~/.garbi-ansible/tmp",
        "ANSIBLE_HOST_KEY_CHECKING": "True",
        "ANSIBLE_SSH_ARGS": " ".join([*ssh.options(target), *control]),
        "ANSIBLE_PIPELINING": "True",
        "ANSIBLE_TIMEOUT": str(ssh.CONNECT_TIMEOUT_S),
        "ANSIBLE_INJECT_FACT_VARS": "False",
        "ANSIBLE_GATHERING": "explicit",
        "ANSIBLE_RETRY_FILES_ENABLED": "False",
        "ANSIBLE_NOCOLOR": "True",
        "ANSIBLE_FORCE_COLOR": "False",
        "ANSIBLE_INVENTORY_ENABLED": "ansible.builtin.yaml",
        "ANSIBLE_DEPRECATION_WARNINGS": "False",
        "ANSIBLE_BECOME_METHOD": "sudo",
    }


class _Reader:
    """Reads the events of Ansible Runner, one JSON document in a line."""

    def __init__(self, on_task: Callable[[int, str], None], secrets: tuple[str, ...]) -> None:
        self._on_task = on_task
        self._secrets = secrets
        self._step = 0
        self._task = "start Ansible"
        self._changed = 0
        self._notes: list[str] = []
        self._failure: TaskFailed | None = None
        self._said = ""

    def read(self, line: bytes) -> None:
        try:
            event = json.loads(line)
            kind, data = event.get("event"), event.get("event_data") or {}
        except (ValueError, AttributeError):
            self._said = clean((self._said + "\n" + line.decode("utf-8", "replace"))[-4000:], self._secrets)
            return
        if kind == "playbook_on_task_start":
            self._step += 1
            self._task = clean(data.get("task", ""))
            self._on_task(self._step, self._task)
        elif kind == "runner_on_ok":
            self._changed += bool((data.get("res") or {}).get("changed"))
            self._note(data.get("res") or {})
        elif kind in ("runner_on_failed", "runner_on_unreachable") and not data.get("ignore_errors"):
            self._failure = TaskFailed(self._task, of_result(data.get("res"), self._secrets))
        elif kind in ("verbose", "error", "warning") and event.get("stdout"):
            self._said = clean((self._said + "\n" + event["stdout"])[-4000:], self._secrets)

    def _note(self, result: dict[str, Any]) -> None:
        for line in clean(result.get("stdout") or "", self._secrets).splitlines():
            if line.startswith("garbi: ") and line != "garbi: changed" and len(self._notes) < MAX_NOTES:
                self._notes.append(line.removeprefix("garbi: "))

    def outcome(self, code: int, errors: str) -> Outcome:
        if self._failure is not None:
            raise self._failure
        if code:
            raise TaskFailed(
                self._task, clean(f"{self._said}\n{errors}", self._secrets) or f"Ansible ended with {code}"
            )
        return Outcome(self._changed, tuple(self._notes))
