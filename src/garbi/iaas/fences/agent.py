"""The fence that switches the host of a node off by one of Debian's fence agents, which the node was given with its options.

The agent is told everything on its standard input, so that no secret is in a process list. It is asked for `off`, and then for
`status` until that says so; never for a reboot, after which nobody could tell what runs.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from garbi.base.child import Cancelled, Ended, run
from garbi.base.errors import FenceFailed
from garbi.iaas.fences.power import KEPT, MAX_ANSWER_BYTES, PATH, find_flaw
from garbi.iaas.fences.protocol import Outlook, Proof, Scope
from garbi.iaas.model.node import Node
from garbi.iaas.provisioning.words import clean
from garbi.iaas_api.nodes import FenceTrial

PAUSE_S = 1.0
ON, OFF = 0, 2
"""What the status of an agent ends with; anything else is no answer."""

PLUGS = ("plug", "port")
"""The options that name which of several hosts a device switches."""


class AgentFence:
    """Runs the fence agent of a node, from `directory`. `secrets_of` finds the values of its secret options by the node's name.

    `limit_s` bounds the whole.
    """

    name = "fence-agent"

    def __init__(
        self,
        directory: Path,
        secrets_of: Callable[[str], Mapping[str, str]],
        limit_s: float,
        pause_s: float = PAUSE_S,
    ) -> None:
        self._directory, self._secrets_of = directory, secrets_of
        self._limit_s, self._pause_s = limit_s, pause_s

    def applies_to(self, node: Node) -> str | None:
        """Whether the node has an agent, which may be run."""
        if node.power is None:
            return f"the node has none (iaas node set {node.name} --fence-agent NAME)"
        return find_flaw(self._directory / node.power.agent)

    def outlook(self, node: Node) -> Outlook:
        """It covers the whole host."""
        return Outlook(Scope.ALL, self._limit_s)

    def prove(self, node: Node, cancelled: threading.Event) -> Proof:
        """Switch the host off, and believe it when `status` says so then; raises FenceFailed with the agent's words."""
        deadline = time.monotonic() + self._limit_s
        said = self._run("off", node, cancelled, deadline)
        while (now := self._run("status", node, cancelled, deadline)).code != OFF:
            if said.code:
                words = f"could not switch {node.host} off{self._quoted(said, node)}; its status is {_status(now)}"
                raise FenceFailed(f"{_agent(node)} {words}")
            if time.monotonic() > deadline:
                words = (
                    f"was asked to switch {node.host} off, and {self._limit_s:g} s later its status is {_status(now)}"
                )
                raise FenceFailed(f"{_agent(node)} {words}")
            if cancelled.wait(self._pause_s):
                raise FenceFailed("it was cancelled")
        return Proof(self.name, Scope.ALL, f"{_agent(node)} switched {node.host} off, and says that it is")

    def try_out(self, node: Node, answers: bool, cancelled: threading.Event) -> FenceTrial:
        """Ask the agent for all that it is asked for, but `off`; raises FenceFailed when it would prove nothing.

        `answers`: the node is there now, so that a plug which is off cannot be its own.
        """
        why_not = self.applies_to(node)
        if why_not is not None:
            raise FenceFailed(why_not)
        deadline = time.monotonic() + self._limit_s
        said = self._run("status", node, cancelled, deadline)
        if said.code not in (ON, OFF):
            raise FenceFailed(f"{_agent(node)} does not tell the status of {node.host}{self._quoted(said, node)}")
        if answers and said.code == OFF:
            raise FenceFailed(
                f"{_agent(node)} says off, and node {node.name} answers: that is the plug of another host"
            )
        watched = self._run("monitor", node, cancelled, deadline)
        if watched.code:
            raise FenceFailed(f"{_agent(node)} cannot be relied on: its monitor ended with {watched.code}"
                              f"{self._quoted(watched, node)}")  # fmt: skip
        return FenceTrial(_agent(node), _status(said), self._plug(node, cancelled, deadline))

    def _plug(self, node: Node, cancelled: threading.Event, deadline: float) -> str:
        """What the device calls the plug, where it lists its plugs; raises FenceFailed when it has no such plug."""
        power = node.power
        plug = next((power.options[name] for name in PLUGS if name in power.options), None) if power else None
        if plug is None:
            return ""
        said = self._run("list", node, cancelled, deadline)
        found = dict(re.findall(r"^([^,\n]+),([^,\n]*)", said.output, re.MULTILINE)) if said.code == 0 else {}
        if not found:
            return f"it does not list its plugs: see that {plug} is that of {node.name}"
        if plug not in found:
            shown = ", ".join(sorted(found)[:20])
            raise FenceFailed(f"{_agent(node)} has no plug {plug}: it has {clean(shown)}")
        called = clean(found[plug]).strip()
        return f"it calls plug {plug} {called}" if called else f"it has a plug {plug}"

    def _run(self, action: str, node: Node, cancelled: threading.Event, deadline: float) -> Ended:
        power = node.power
        if power is None:
            raise FenceFailed("the node has no fence agent")
        given = {**power.options, **self._secrets_of(node.name), "action": action}
        environment = {"PATH": PATH, "LC_ALL": "C.UTF-8"} | {key: os.environ[key] for key in KEPT if key in os.environ}
        program, limit_s = str(self._directory / power.agent), max(deadline - time.monotonic(), 1.0)
        with os.fdopen(os.memfd_create("options", os.MFD_CLOEXEC), "w+b", buffering=0) as told:
            told.write("".join(f"{name}={value}\n" for name, value in given.items()).encode())
            told.seek(0)
            try:
                return run([program], limit_s, cancelled, told.fileno(), environment, MAX_ANSWER_BYTES)
            except Cancelled as error:
                raise FenceFailed("it was cancelled" if cancelled.is_set() else f"{action}: {error}") from error
            except OSError as error:
                raise FenceFailed(f"{program} cannot be run: {error.strerror}") from error

    def _quoted(self, said: Ended, node: Node) -> str:
        """The words of the agent, in which nothing of a secret is."""
        words = " ".join(clean(said.errors or said.output, tuple(self._secrets_of(node.name).values())).split())
        return f": {words[:500]}" if words else f": it ended with {said.code}"


def _agent(node: Node) -> str:
    return node.power.agent if node.power is not None else ""


def _status(said: Ended) -> str:
    return {ON: "on", OFF: "off"}.get(said.code, "not known")
