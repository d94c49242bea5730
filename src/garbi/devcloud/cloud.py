"""A development cloud: puts a controller and its nodes together in this process, and takes them apart again."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from garbi.base.errors import Busy
from garbi.base.token import TOKEN_FILE
from garbi.devcloud.background import Background
from garbi.devcloud.node import HOST, DevNode, prepare_databases
from garbi.iaas.controller import Controller
from garbi.iaas.main import open_controller
from garbi.iaas.model.node import NodeState
from garbi.iaas.rest.server import Service
from garbi.iaas.settings import Settings
from garbi.iaas_api.client import IaasClient

READY_S = 60.0
"""How long the nodes may take together; on a busy host they take one or two seconds."""

CHECK_PERIOD_S = 1.0
UNREACHABLE_AFTER_S = 3.0
"""A node that is stopped is missed soon: who develops does not want to wait as long as an operator."""

NOT_READY = (NodeState.ADDING, NodeState.FAILED, NodeState.UNREACHABLE)


class DevCloud:
    """A cloud of fake machines, from `start` to `stop`, or inside a `with`.

    `client` speaks to it; `url` and `token_file` are for programs. `nodes` holds each node by its name: node-1, node-2 ….
    """

    def __init__(
        self,
        nodes: int = 3,
        port: int = 0,
        data_dir: Path | None = None,
        fake: Mapping[str, str] | None = None,
        audit_period_s: float = 300.0,
    ) -> None:
        """`port` 0 takes a free one. With a `data_dir` all is kept there for the next time, its machines running on.

        Without one, a directory is made, and deleted at the end. `fake` are settings of the fake driver, as
        {"start_delay_s": "2"}. `audit_period_s` is how often controller and agents audit themselves.
        """
        self._wanted = nodes
        self._port = port
        self._given = data_dir
        self._fake = dict(fake or {})
        self._audit_period_s = audit_period_s
        self._ending = ExitStack()

    def start(self) -> Self:
        """Have all nodes ready; raises PortTaken, DataDirLocked, or Busy when a node does not become ready."""
        with ExitStack() as stack:
            self.data_dir = self._given or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="garbi-dev-")))
            self.nodes = {name: self._node(name) for name in self._names()}
            prepare_databases(list(self.nodes.values()))
            for node in self.nodes.values():
                node.start()
                stack.callback(node.stop)
            self.controller = self._open_controller()
            stack.callback(self.controller.close)
            answering = Background(Service(self.controller, HOST, self._port), "controller")
            stack.callback(answering.stop)
            self.url = answering.url
            self.token_file = self.controller.settings.data_dir / TOKEN_FILE
            self.client = IaasClient(self.url, token=self.controller.secret)
            self._add_nodes()
            self._ending = stack.pop_all()
        return self

    def stop(self) -> None:
        """End it; nothing is left of it but the data directory that was given."""
        self._ending.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def _names(self) -> list[str]:
        """The nodes that are wanted, and those that were there the last time."""
        kept = [path.name for path in self._place_of_nodes().glob("node-*")]
        names = {*kept, *(f"node-{number}" for number in range(1, self._wanted + 1))}
        return sorted(names, key=lambda name: (len(name), name))

    def _node(self, name: str) -> DevNode:
        place = self._place_of_nodes() / name
        return DevNode(name, place, self._fake, persist=self._given is not None, audit_period_s=self._audit_period_s)

    def _place_of_nodes(self) -> Path:
        return self.data_dir / "nodes"

    def _open_controller(self) -> Controller:
        settings = Settings(
            data_dir=self.data_dir / "controller",
            port=self._port,
            check_period_s=CHECK_PERIOD_S,
            unreachable_after_s=UNREACHABLE_AFTER_S,
            audit_period_s=self._audit_period_s,
        )
        return open_controller(settings)

    def _add_nodes(self) -> None:
        """Make the agents nodes where they are not, and wait until all are ready."""
        known = {node["name"] for node in self.client.nodes.list()}
        something = threading.Event()
        unsubscribe = self.controller.events.subscribe(lambda _event: something.set())
        try:
            for name, node in self.nodes.items():
                if name not in known:
                    spec = {"name": name, "address": node.address, "provision": False, "token": node.agent.secret}
                    self.client.nodes.add(spec)
            self._wait_until_ready(something)
        finally:
            unsubscribe()

    def _wait_until_ready(self, something: threading.Event) -> None:
        deadline = time.monotonic() + READY_S
        while True:
            something.clear()
            nodes = [node for node in self.controller.nodes.list() if node.name in self.nodes]
            away = [f"{node.name} is {node.state}: {node.reason}" for node in nodes if node.state in NOT_READY]
            if not away:
                return
            if not something.wait(max(deadline - time.monotonic(), 0)):
                raise Busy(f"not all nodes are ready after {READY_S:.0f} s: {'; '.join(away)}")
