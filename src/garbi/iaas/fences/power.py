"""The fence that switches a host off by a program of the administrator's: proven when the program says that it is off."""

from __future__ import annotations

import os
import stat
import threading
import time
from pathlib import Path

from garbi.base.child import Cancelled, Ended, run
from garbi.base.errors import FenceFailed
from garbi.iaas.fences.protocol import Outlook, Proof, Scope
from garbi.iaas.model.node import Node
from garbi.iaas.provisioning.words import clean

LIMIT_S = 60.0
PAUSE_S = 1.0
MAX_ANSWER_BYTES = 4 << 10
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
KEPT = ("HOME", "USER", "LANG", "TZ")
"""What the program sees of our environment, beside a PATH of the system's own."""


class PowerFence:
    """Runs `<program> off|status <node> <host>`; every machine of a host that is off has stopped.

    `limit_s` bounds the whole, a third of it each run of the program.
    """

    name = "power"

    def __init__(self, command: str, limit_s: float = LIMIT_S, pause_s: float = PAUSE_S) -> None:
        self._command, self._limit_s, self._pause_s = command, limit_s, pause_s

    def applies_to(self, node: Node) -> str | None:
        """Whether there is a program that may be run."""
        if not self._command:
            return "no power program is set (GARBI_IAAS_POWER_COMMAND)"
        return find_flaw(Path(self._command))

    def outlook(self, node: Node) -> Outlook:
        """It covers the whole host."""
        return Outlook(Scope.ALL, self._limit_s)

    def prove(self, node: Node, cancelled: threading.Event) -> Proof:
        """Switch the host off, where it is not off already; raises FenceFailed, with the program's words."""
        deadline = time.monotonic() + self._limit_s
        was = self.ask(node, cancelled)
        if was == "off":
            return _proof(f"{node.host} was off already")
        said = self._run("off", node, cancelled)
        while (now := self.ask(node, cancelled)) != "off":
            if said.code:
                raise FenceFailed(
                    f"the power program could not switch {node.host} off{_quoted(said)}; its status is {now}"
                )
            if time.monotonic() > deadline:
                raise FenceFailed(
                    f"the power program was asked to switch {node.host} off, and {self._limit_s:g} s later its status is {now}"
                )
            if cancelled.wait(self._pause_s):
                raise FenceFailed("it was cancelled")
        return _proof(f"{node.host} was switched off")

    def ask(self, node: Node, cancelled: threading.Event) -> str:
        """`on` or `off`, or why neither is known. Raises FenceFailed when it was cancelled."""
        try:
            said = self._run("status", node, cancelled)
        except FenceFailed as error:
            if cancelled.is_set():
                raise
            return f"not known: {error.detail}"
        answer = said.output.strip()
        if said.code == 0 and answer in ("on", "off"):
            return answer
        return f"not known: status ended with {said.code}{_quoted(said)}"

    def _run(self, verb: str, node: Node, cancelled: threading.Event) -> Ended:
        environment = {"PATH": PATH, "LC_ALL": "C.UTF-8"} | {key: os.environ[key] for key in KEPT if key in os.environ}
        command = [self._command, verb, node.name, node.host]
        try:
            return run(command, self._limit_s / 3, cancelled, environment=environment, max_bytes=MAX_ANSWER_BYTES)
        except Cancelled as error:
            raise FenceFailed("it was cancelled" if cancelled.is_set() else f"{verb}: {error}") from error
        except OSError as error:
            raise FenceFailed(f"{self._command} cannot be run: {error.strerror}") from error


def find_flaw(program: Path) -> str | None:
    """Why a program must not be run, or None: what others may write would let them command every host."""
    try:
        found, directory = program.stat(), program.resolve().parent.stat()
    except OSError as error:
        return f"{program} cannot be read: {error.strerror}"
    if not program.is_absolute() or not stat.S_ISREG(found.st_mode):
        return f"{program} is not the absolute path of a program"
    if not os.access(program, os.X_OK):
        return f"{program} is not executable"
    if found.st_mode & 0o022 or found.st_uid not in (0, os.geteuid()):
        return f"{program} may be written by others than its owner, root or the controller's user"
    if directory.st_mode & 0o022 and not directory.st_mode & stat.S_ISVTX:
        return f"the directory of {program} may be written by others"
    return None


def _proof(words: str) -> Proof:
    return Proof("power", Scope.ALL, words)


def _quoted(said: Ended) -> str:
    words = " ".join(clean(said.errors or said.output).split())
    return f": {words[:500]}" if words else ""
