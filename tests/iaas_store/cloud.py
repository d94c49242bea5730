"""The records of a cloud, and nodes and machines to fill them with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from garbi.hyper_api.vocabulary import ImageState, ImageType
from garbi.iaas.controller.placement import Placement
from garbi.iaas.model.event import Event
from garbi.iaas.model.image import Image
from garbi.iaas.model.machine import Machine, MachineSpec
from garbi.iaas.model.node import Amounts, DriverState, Load, Node, NodeState, Overcommit, Ssh
from garbi.iaas.model.operation import OperationState
from garbi.iaas.settings import Settings
from garbi.iaas.store import audit, events, machines, nodes, operations
from garbi.iaas.store.database import Database, Transaction
from garbi.iaas.store.images import ImageTable

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
FAKE = DriverState("fake", True, abilities=("any-image",), image_types=tuple(ImageType))
LIBVIRT = DriverState("libvirt", True, image_types=("qcow2", "raw"))
DOCKER = DriverState("docker", True, image_types=("docker", "rootfs"))
DRIVERS = (DOCKER, FAKE, LIBVIRT)
EXACT = Overcommit(1.0, 1.0, 1.0)
PLENTY = Amounts(1_000_000, 10_000, 1_000_000)


@dataclass(frozen=True)
class Cloud:
    """One database, opened as a controller does."""

    database: Database
    placement: Placement
    images: ImageTable

    @classmethod
    def at(cls, url: str, directory: Path, **settings: Any) -> Cloud:
        database = Database(url, kept_dir=directory)
        return cls(database, Placement(database, Settings(data_dir=directory, **settings)), ImageTable(database))

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        with self.database.write() as transaction:
            yield transaction

    @contextmanager
    def read(self) -> Iterator[Connection]:
        with self.database.read() as connection:
            yield connection

    def add_node(
        self,
        name: str = "n1",
        has: Amounts = PLENTY,
        drivers: tuple[DriverState, ...] = DRIVERS,
        state: NodeState = NodeState.READY,
        **fields: Any,
    ) -> Node:
        """A node that was met; ready unless said otherwise."""
        with self.write() as transaction:
            nodes.insert(transaction, make_node(name, **fields), NOW)
            note_facts(transaction, name, has, drivers)
            if state is not NodeState.ADDING:
                assert nodes.set_state(transaction, name, NodeState.READY, "", NOW)
            if state is not NodeState.READY:
                assert nodes.set_state(transaction, name, state, "", NOW)
        return self.node(name)

    def add_image(self, name: str = "tiny", type: ImageType = ImageType.RAW, virtual_size: int = 0) -> Image:
        image = Image(name, type, 10, virtual_size, f"digest-of-{name}", ImageState.ACTIVE, "", NOW)
        self.images.insert(image)
        return image

    def add_machine(self, id: str | None = None, **fields: Any) -> Machine:
        """A machine of a fake driver."""
        return self.placement.accept(MachineSpec(image="any", type="fake", id=id, **fields))

    def remove_machine(self, machine: Machine) -> bool:
        """End its operation, and delete it."""
        with self.write() as transaction:
            operations.finish(transaction, machine.operation or "", OperationState.DONE, NOW)
            return machines.delete(transaction, machine, "user", "", NOW)

    def node(self, name: str = "n1") -> Node:
        with self.read() as connection:
            found = nodes.find(connection, name)
        assert found is not None
        return found

    def machine(self, id: str) -> Machine | None:
        with self.read() as connection:
            return machines.find(connection, id)

    def all_machines(self) -> list[Machine]:
        with self.read() as connection:
            return machines.search(connection)

    def events(self) -> list[Event]:
        with self.read() as connection:
            return events.since(connection, 0, 1_000_000)

    def findings(self) -> list[audit.Finding]:
        with self.read() as connection:
            return audit.findings(connection)


def make_node(name: str = "n1", **fields: Any) -> Node:
    """A node that was never met; its port follows from its name."""
    port = 1 + sum(ord(char) * 31**place for place, char in enumerate(name)) % 60000
    node = Node(
        name=name, host="127.0.0.1", port=port, provision=False, ssh=Ssh(), labels={}, overcommit=EXACT,
        state=NodeState.ADDING, reason="", draining=False, has=Amounts(), limit=Amounts(), reserved=Amounts(), load=Load(),
        architecture="", drivers=(), versions={}, cluster_id="", boot_id="", epoch=0, operation=None, seen_at=None,
        created_at=NOW, updated_at=NOW,
    )  # fmt: skip
    return replace(node, **fields)


def note_facts(
    transaction: Transaction,
    name: str,
    has: Amounts = PLENTY,
    drivers: tuple[DriverState, ...] = DRIVERS,
    boot: str | None = None,
    host_mem: int = 0,
) -> Node | None:
    """What a node says of itself; unless said otherwise it has its host to itself."""
    boot = f"boot of {name}" if boot is None else boot
    load = Load(0.5, 100)
    return nodes.note_facts(
        transaction, name, has, load, "x86_64", drivers, {"hyper": "0.1.0"}, "cluster", boot, NOW, host_mem
    )
