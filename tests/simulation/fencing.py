"""The proofs of a simulated cloud: SSH to its hosts and a power program, which answer, fail, hang, or say `off` too early."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.simulation.threads import Event

from garbi.base.child import Cancelled, Ended
from garbi.base.errors import FenceFailed
from garbi.iaas.fences import power, ssh
from garbi.iaas.fences.protocol import Proof
from garbi.iaas.model.node import Node as NodeRow

if TYPE_CHECKING:
    from tests.simulation.cloud import Cloud
    from tests.simulation.nodes import Node

CONNECT_S = 2.0
SSH_LIMIT_S = 30.0
PROGRAM = "/simulated/power"
OPERATOR_S = 900.0
SOON_S = 60.0
"""The mean time until somebody switches a host on again that a fence has switched off; and when all is being mended."""


@dataclass
class Ways:
    """How each host's two ways in behave: `good`, `fails`, `hangs`; and for power `slow`: off is said before it is so."""

    ssh: dict[str, str] = field(default_factory=dict)
    power: dict[str, str] = field(default_factory=dict)


class SimSshFence(ssh.SshFence):
    """The SSH fence, with a simulated host behind it; what the host answers is read by the real code."""

    def __init__(self, cloud: Cloud, controller_id: Callable[[], str]) -> None:
        super().__init__("", Path("/"), SSH_LIMIT_S)
        self._cloud = cloud
        self._controller = controller_id

    def applies_to(self, node: NodeRow) -> str | None:
        return None

    def prove(self, node: NodeRow, cancelled: threading.Event) -> Proof:
        host = self._cloud.nodes[node.name]
        self._cloud.kernel.note(f"ssh fence of {node.name}, lease {node.lease}")
        if not self._reaches(host):
            cancelled.wait(CONNECT_S)
            raise FenceFailed(f"no answer within {CONNECT_S:g} s")
        if self._cloud.ways.ssh.get(node.name) == "fails":
            raise FenceFailed("the host does not let root in")
        said = self._cloud.run_fence(host, self._controller(), node.lease, SSH_LIMIT_S, cancelled)
        if said is None or not self._reaches(host):
            raise FenceFailed("the connection broke")
        return ssh.read_proof(said, node)

    def _reaches(self, host: Node) -> bool:
        cloud, home = self._cloud, self._cloud.home.name
        there = cloud.network.passes(home, host.name) and cloud.network.passes(host.name, home)
        return there and not host.host.frozen and cloud.ways.ssh.get(host.name) != "hangs"


class PowerControl:
    """What the power program of a simulated cloud does; the power fence runs it as it runs a real one."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        power.run = self.run  # type: ignore[assignment]
        power.find_flaw = lambda _program: None

    def run(self, command: Sequence[str], timeout_s: float, cancelled: threading.Event, **_options: Any) -> Ended:
        _, verb, name, _ = command
        node = self._cloud.nodes[name]
        mode = self._cloud.ways.power.get(name, "good")
        if mode == "hangs":
            if cancelled.wait(timeout_s):
                raise Cancelled("cancelled")
            raise Cancelled(f"it took longer than {timeout_s:g} s")
        cancelled.wait(0.2)
        if mode == "fails":
            return Ended(1, "", "the management controller does not answer")
        if verb == "status":
            return Ended(0, "on\n" if node.host.on else "off\n", "")
        self._cloud.kernel.note(f"power fence switches {name} off ({mode})")
        delay_s = 3 + self._cloud.dice.random() * 15 if mode == "slow" else 0.0
        self._cloud.kernel.after(delay_s, lambda: self._off(node))
        return Ended(0, "off\n", "")

    def _off(self, node: Node) -> None:
        if node.host.on:
            self._cloud.kill_host(node)
            back_s = self._cloud.dice.expovariate(1 / (SOON_S if self._cloud.mended else OPERATOR_S))
            self._cloud.kernel.after(back_s, lambda: self._cloud.boot_host(node))


def wait_for(done: Event, limit_s: float, cancelled: threading.Event) -> bool:
    """Wait until something is done, at most so long, or until it is cancelled; whether it is done."""
    left_s = limit_s
    while left_s > 0 and not done.is_set() and not cancelled.is_set():
        done.wait(min(1.0, left_s))
        left_s -= 1.0
    return done.is_set()


def answer_of(code: int, document: str, agent: str) -> Ended:
    """What the script of the SSH fence prints on a host."""
    return Ended(0, f"garbi-fence {code} {document}\ngarbi-agent {agent}\n", "")


Answers = Mapping[str, str]
