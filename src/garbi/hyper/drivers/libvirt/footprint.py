"""What an agent makes at libvirt for all of its machines together: one network and one storage pool."""

from __future__ import annotations

from pathlib import Path

from garbi.base.failpoints import reach
from garbi.hyper.drivers.libvirt.connection import Connection, verb
from garbi.hyper.drivers.libvirt.marks import Marks
from garbi.hyper.drivers.libvirt.network import Network
from garbi.hyper.drivers.libvirt.storage import Storage
from garbi.hyper.drivers.protocol import GuestNetwork


class Footprint:
    """The network and the pool of the agent whose marks these are; its disks are under `data_dir`."""

    def __init__(self, uri: str, marks: Marks, data_dir: Path) -> None:
        self.connection = Connection(uri)
        self._network = Network(marks, self.connection.local and self.connection.hypervisor == "qemu")
        self._storage = Storage(marks, data_dir / "pool")

    @verb
    def guest_network(self) -> GuestNetwork:
        return self._network.ensure(self.connection.get())

    @verb
    def withdraw(self) -> None:
        live = self.connection.get()
        self._network.destroy(live)
        reach("libvirt.network.gone")
        self._storage.destroy(live)

    @verb
    def _ensure(self) -> None:
        live = self.connection.get()
        self._storage.ensure(live)
        self._network.ensure(live)
