"""Keeps every published port where it belongs: held for its machine, and led to it while it runs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from garbi.base.errors import GarbiError, PortTaken
from garbi.hyper.drivers.protocol import Driver, GuestNetwork, NetworkAttached
from garbi.hyper.drivers.registry import DriverRegistry
from garbi.hyper.model.machine import Machine, PublishedPort, State
from garbi.hyper.model.query import MachineQuery
from garbi.hyper.publishing.holders import Holder, PortHolder
from garbi.hyper.publishing.nftables import Lead, PublishingTable
from garbi.hyper.store import machines
from garbi.hyper.store.database import Database

log = logging.getLogger(__name__)

LED = (State.STARTING, State.RUNNING, State.PAUSED, State.STOPPING, State.UNKNOWN)
"""Who may be running has its ports, also while its driver does not answer: its users must not notice that."""


class Publisher:
    """Ports of drivers with a guest network are led there by our nftables table; other drivers publish by themselves.

    A port is held by a socket of the agent from the accepted create on, except while a driver that publishes by itself has it.
    """

    def __init__(self, database: Database, drivers: DriverRegistry, holder: PortHolder, table: PublishingTable) -> None:
        self._database = database
        self._drivers = drivers
        self._holder = holder
        self._table = table
        self._lock = threading.Lock()
        self._networks: dict[str, GuestNetwork] = {}

    def claim(self, ports: tuple[PublishedPort, ...]) -> tuple[PublishedPort, ...]:
        """Hold ports for a machine to be; return those not held before.

        Raises PortTaken, which names the machine or the process that has one.
        """
        if not ports:
            return ()
        with self._database.read() as connection:
            for port in ports:
                owner = machines.port_holder(connection, port)
                if owner is not None:
                    text = f"port {port.node_port}/{port.protocol} belongs to machine {owner}"
                    raise PortTaken(text, field="ports", holder=f"machine {owner}")
        before = self._holder.held()
        self._holder.claim(ports)
        return tuple(port for port in ports if (port.protocol, port.node_port) not in before)

    def release(self, ports: tuple[PublishedPort, ...]) -> None:
        """Let go of ports that no machine has any more."""
        if ports:
            self._holder.release(ports)

    @contextmanager
    def starting(self, machine: Machine, driver: Driver) -> Iterator[None]:
        """Have the ports of a machine ready while it starts; raises PortTaken when somebody has one meanwhile."""
        if isinstance(driver, NetworkAttached):
            if machine.ports:
                self._holder.demand(machine.ports)
            self._sync_with(machine, driver)
            yield
        elif machine.ports:
            with self._lent(machine.ports):
                yield
        else:
            yield

    def unpublish(self, machine: Machine, driver: Driver) -> None:
        """Let go of the ports of a machine that is being removed, and lead them nowhere; raises as `network_of`."""
        if machine.ports and isinstance(driver, NetworkAttached):
            self._sync_with(machine, driver)
        self.release(machine.ports)

    def arrange(self, machine: Machine, driver: Driver) -> None:
        """Hold the ports of a machine, as far as its driver does not have them; complain in the log only."""
        if not machine.ports or (not isinstance(driver, NetworkAttached) and machine.state in LED):
            return
        for holder in self._holder.reclaim(machine.ports):
            fields = {"machine": machine.id, "port": holder.port, "protocol": holder.protocol, "holder": str(holder)}
            log.warning("port lost", extra=fields)

    def strangers(self, machine: Machine, driver: Driver) -> list[Holder]:
        """Who has ports of a machine that the agent is to hold: nobody, or what took one before the agent began."""
        if not machine.ports or (not isinstance(driver, NetworkAttached) and machine.state in LED):
            return []
        return self._holder.strangers(machine.ports)

    def misled(self) -> tuple[list[Lead], list[Lead]]:
        """What the kernel leads that it should not, and what it does not lead and should; raises as `sync`."""
        if not self._networks:
            return [], []
        with self._lock:
            present, wanted = set(self._table.leads().values()), set(self._leads())
        return sorted(present - wanted, key=_order), sorted(wanted - present, key=_order)

    def network_of(self, type_name: str, driver: Driver) -> GuestNetwork | None:
        """The guest network of a driver, if it has one, with our rules around it."""
        if not isinstance(driver, NetworkAttached):
            return None
        network = driver.guest_network()
        if self._networks.get(type_name) != network:
            self._networks[type_name] = network
            self.sync()
        return network

    def sync(self) -> None:
        """Bring the nftables table in line with the running machines; nothing is written when it is."""
        if not self._networks:
            return
        with self._lock:
            self._table.apply(list(self._networks.values()), self._leads())

    def resync(self) -> None:
        """The same, for the period: networks of drivers in use are looked up again, and errors only complain."""
        try:
            with self._database.read() as connection:
                used = {machine.type for machine in machines.search(connection, MachineQuery())}
            for name in used:
                self.network_of(name, self._drivers.get(name))
            self.sync()
        except GarbiError as error:
            log.warning("ports not published", extra={"detail": error.detail})

    def _sync_with(self, machine: Machine, driver: Driver) -> None:
        """Bring the table in line, also before the first look at everything after a restart."""
        if machine.type not in self._networks:
            self.network_of(machine.type, driver)
        self.sync()

    @contextmanager
    def _lent(self, ports: tuple[PublishedPort, ...]) -> Iterator[None]:
        self._holder.claim(ports)
        try:
            with self._holder.lend(ports):
                yield
        except PortTaken:
            self._holder.demand(ports)  # the driver's daemon does not say who has it
            raise

    def close(self) -> None:
        """Let go of the sockets. Rules stay: machines stay reachable while no agent runs."""
        self._holder.close()

    def _leads(self) -> list[Lead]:
        with self._database.read() as connection:
            rows = machines.search(connection, MachineQuery())
        return [
            Lead(port.protocol, port.node_port, machine.address, port.machine_port)
            for machine in rows
            if machine.type in self._networks and machine.state in LED and machine.address
            for port in machine.ports
        ]


def _order(lead: Lead) -> tuple[int, str]:
    return lead.node_port, lead.protocol
