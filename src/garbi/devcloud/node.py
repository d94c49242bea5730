"""One node of a development cloud: a real agent with fake machines, at an address of loopback that it keeps."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from garbi.base.errors import Conflict
from garbi.devcloud.background import Background
from garbi.hyper.agent import Agent
from garbi.hyper.drivers.fake import FakeWorld
from garbi.hyper.main import DATABASE, open_agent
from garbi.hyper.rest.server import Service
from garbi.hyper.settings import Settings
from garbi.hyper.store.migrate import migrate

HOST = "127.0.0.1"
MEM_MIB = 16384
"""What each node has for machines, whatever this host has."""


class DevNode:
    """A node that can be stopped and started again, as a host that is switched off and on."""

    def __init__(
        self, name: str, data_dir: Path, fake: Mapping[str, str], persist: bool, audit_period_s: float = 300.0
    ) -> None:
        """`fake` are settings of its fake driver; machines outlive the process when they `persist`."""
        self.name = name
        self.data_dir = data_dir
        self._persist = persist
        drivers = {"fake": {"persist": str(persist).lower(), **fake}}
        self._settings = Settings(
            data_dir=data_dir,
            run_dir=data_dir / "run",
            node_name=name,
            mem_limit_mib=MEM_MIB,
            drivers=drivers,
            audit_period_s=audit_period_s,
        )
        self._port_file = data_dir / "port"
        self._running: tuple[Agent, Background] | None = None

    @property
    def agent(self) -> Agent:
        """Its agent; raises Conflict while the node is stopped."""
        return self._while_running()[0]

    @property
    def address(self) -> str:
        """host:port where its agent answers; raises Conflict while the node is stopped."""
        return urlsplit(self._while_running()[1].url).netloc

    @property
    def world(self) -> FakeWorld:
        """What can happen to its machines without anybody's asking: they are killed, their daemon goes away."""
        if self._persist:
            return FakeWorld.at(self.data_dir / "drivers" / "fake")
        return FakeWorld.of(self.agent.cluster_id)

    def start(self) -> None:
        """Answer at the same address as before; nothing happens when it does. Raises PortTaken, DataDirLocked."""
        if self._running is not None:
            return
        agent = open_agent(self._settings, simulated=True)
        try:
            service = Service(agent, HOST, self._known_port())
            self._port_file.write_text(str(urlsplit(service.url).port))
        except BaseException:
            agent.close()
            raise
        self._running = (agent, Background(service, self.name))

    def stop(self) -> None:
        """Answer no more; its machines run on. Nothing happens when it does not run."""
        if self._running is not None:
            (agent, background), self._running = self._running, None
            background.stop()
            agent.close()

    def _known_port(self) -> int:
        return int(self._port_file.read_text()) if self._port_file.exists() else 0

    def _while_running(self) -> tuple[Agent, Background]:
        if self._running is None:
            raise Conflict(f"{self.name} is stopped")
        return self._running


def prepare_databases(nodes: Sequence[DevNode]) -> None:
    """Give each new node an empty database, which is migrated once and copied: that takes longer than all the rest."""
    new = [node.data_dir / DATABASE for node in nodes if not (node.data_dir / DATABASE).exists()]
    for path in new:
        path.parent.mkdir(parents=True, exist_ok=True)
    if new:
        migrate(new[0])
    for path in new[1:]:
        shutil.copy(new[0], path)
