"""Machines, as a user asks for them: what is refused, what is written down, and the wait for what becomes of it."""

from __future__ import annotations

import hashlib
import json
import secrets
from dataclasses import asdict, dataclass, replace

from sqlalchemy import Connection

from garbi.base.clock import Clock, to_wire
from garbi.base.documents import fields_of
from garbi.base.errors import (
    AbilityMissing,
    AlreadyInState,
    Conflict,
    DriverUnavailable,
    GarbiError,
    NotFound,
    StaleOrder,
)
from garbi.base.failpoints import reach
from garbi.base.names import check_name
from garbi.hyper.agent.events import EventFeed
from garbi.hyper.agent.orphans import Orphans
from garbi.hyper.agent.placement import ImageChoice, Placement
from garbi.hyper.drivers.protocol import ConsoleLog, Driver, Figures, GuestNetwork, LiveFigures, Pausable
from garbi.hyper.leases.leases import Leases
from garbi.hyper.loops.converger import Converger
from garbi.hyper.loops.looking import look_at_engine
from garbi.hyper.loops.publisher import Publisher
from garbi.hyper.model.capacity import Capacity
from garbi.hyper.model.kept import LONGEST_KEEP_S
from garbi.hyper.model.machine import Machine, MachineSpec, NodeFailurePolicy, State, Wish
from garbi.hyper.model.query import MachineQuery
from garbi.hyper.store import events, idempotency
from garbi.hyper.store import machines as table
from garbi.hyper.store.database import Database
from garbi.hyper_api.assignment import Assignment
from garbi.hyper_api.machines import MachineShape
from garbi.hyper_api.validation import check_number
from garbi.web.bodies import check


@dataclass(frozen=True, slots=True)
class Host:
    """What every machine of this host has in common."""

    node: str
    boot_id: str
    capacity: Capacity


@dataclass(frozen=True, slots=True)
class Traces:
    """What an agent and its engine have of a machine."""

    recorded: bool
    at_engine: bool


class Machines:
    """The verbs of machines. Each writes the wish and returns at once; the converger does the rest.

    An order with an `assignment` is refused by StaleOrder when a later one has overtaken it.
    """

    def __init__(
        self,
        database: Database,
        placement: Placement,
        publisher: Publisher,
        converger: Converger,
        feed: EventFeed,
        leases: Leases,
        clock: Clock,
        host: Host,
        orphans: Orphans,
    ) -> None:
        self._database = database
        self._placement = placement
        self._publisher = publisher
        self._converger = converger
        self._feed = feed
        self._leases = leases
        self._clock = clock
        self._host = host
        self._orphans = orphans

    def add(
        self, spec: MachineSpec, idempotency_key: str | None = None, assignment: Assignment | None = None
    ) -> Machine:
        """Accept a new machine: it has its id, ports and reservation when this returns, and will be made.

        With `idempotency_key`, a second call returns the machine of the first. Raises InvalidField, UnknownImage,
        UnknownType, AlreadyExists, PortTaken, CapacityExceeded, DriverUnavailable, NoSpace; nothing is kept of what was
        refused.
        """
        check(spec)
        self._check_order(assignment)
        fingerprint = _fingerprint(spec)
        if idempotency_key is not None:
            earlier = self._of_key(idempotency_key, fingerprint)
            if earlier is not None:
                return earlier
        self._database.require_room()
        choice = self._placement.choose(spec)
        driver = self._converger.watch(choice.type)
        info = driver.info()
        if not info.available:
            raise DriverUnavailable(f"driver {choice.type} is not available: {info.reason}", driver=choice.type)
        network = self._publisher.network_of(choice.type, driver)
        machine = self._draft(spec, choice, network)
        if assignment is not None:
            machine = replace(machine, lease=assignment.lease, ordered=assignment.order)
        claimed = self._publisher.claim(machine.ports)
        reach("machine.create.claimed")
        try:
            machine = self._insert(machine, network, idempotency_key, fingerprint, assignment)
        except GarbiError:
            self._publisher.release(claimed)
            raise
        reach("machine.create.recorded")
        self._converger.wake(machine)
        return machine

    def wish(self, machine_id: str, wish: Wish, assignment: Assignment | None = None) -> Machine:
        """Wish a machine running, stopped or paused. A wish that is already being fulfilled changes nothing.

        The lease under which it is wished is written in any case, so that a machine that was held for an older one is free.

        Raises NotFound, AlreadyInState when it is so already, AbilityMissing, Conflict when it cannot be from here.
        """
        driver = self._converger.watch(self.get(machine_id).type) if wish is Wish.PAUSED else None
        with self._database.write() as transaction:
            machine = self._get(transaction.connection, machine_id)
            if assignment is not None:
                self._leases.check(transaction.connection, assignment, machine)
                _check_latest(machine, assignment)
                machine = table.save_order(transaction, machine, assignment.lease, assignment.order)
            reached = _has_reached(machine, wish)
            if not reached and (machine.wish is not wish or machine.settled):
                _check_wish(machine, wish, driver)
                machine = table.save_wish(transaction, machine, wish, self._clock.now())
        reach("machine.wish.recorded")
        self._converger.wake(machine)
        if reached:
            raise AlreadyInState(f"machine {machine.id} is {machine.state} already", state=machine.state)
        return machine

    def remove(self, machine_id: str, keep_s: int = 0, assignment: Assignment | None = None) -> Machine | None:
        """Wish a machine away, whatever it is doing; with `keep_s` its disk is kept for so many seconds after it.

        What was asked last counts. What an engine has of an id that no machine has (any more) goes at once: then None is
        returned. Raises NotFound when it is gone, InvalidField, DriverUnavailable when it is not known whether an engine has
        something.
        """
        check_number("keep_s", keep_s, LONGEST_KEEP_S, least=0)
        if self._is_unknown(machine_id):
            self._check_order(assignment)
            if self._orphans.remove(machine_id, keep_s, 0 if assignment is None else assignment.epoch):
                return None
        with self._database.write() as transaction:
            machine = self._get(transaction.connection, machine_id)
            if assignment is not None:
                self._leases.check(transaction.connection, assignment, machine)
            if machine.wish is not Wish.REMOVED or machine.settled or machine.keep_s != keep_s:
                machine = table.save_wish(transaction, machine, Wish.REMOVED, self._clock.now(), keep_s=keep_s)
        reach("machine.wish.recorded")
        self._converger.wake(machine)
        return machine

    def get(self, machine_id: str) -> Machine:
        """The machine with that id; raises NotFound, which says when it was removed if it was."""
        with self._database.read() as connection:
            return self._get(connection, machine_id)

    def find_traces(self, machine_id: str, type_name: str, assignment: Assignment | None = None) -> Traces:
        """What is left of a machine: a row, and what its engine has under its name.

        That an agent lists no machine proves nothing, since its database may have been lost. Raises InvalidField, UnknownType,
        DriverUnavailable when its engine cannot be asked.
        """
        check_name("id", machine_id)
        self._check_order(assignment)  # who was overtaken might act on the answer
        driver = self._converger.watch(type_name)
        info = driver.info()
        if not info.available:
            raise DriverUnavailable(f"driver {type_name} is not available: {info.reason}", driver=type_name)
        at_engine = look_at_engine(driver, machine_id)
        with self._database.read() as connection:  # after the engine: what came to be in between has a row
            return Traces(table.find(connection, machine_id) is not None, at_engine)

    def list(self, query: MachineQuery | None = None) -> list[Machine]:
        """The machines that a query asks for, the oldest first."""
        with self._database.read() as connection:
            return table.search(connection, query or MachineQuery())

    def wait_settled(self, machine_id: str, timeout_s: float) -> Machine | None:
        """Wait until the host has done what was last wished of a machine; return it, or None when it is gone.

        After `timeout_s` seconds return it as it is.
        """
        deadline = self._clock.monotonic() + timeout_s
        with self._feed.signal_of(machine_id) as changed:
            while True:
                changed.clear()
                with self._database.read() as connection:
                    machine = table.find(connection, machine_id)
                left = deadline - self._clock.monotonic()
                if machine is None or machine.settled or left <= 0:
                    return machine
                changed.wait(left)

    def console_log(self, machine_id: str, limit: int) -> bytes:
        """The last `limit` bytes of a machine's console; raises NotFound, AbilityMissing."""
        machine = self.get(machine_id)
        driver = self._converger.watch(machine.type)
        if not isinstance(driver, ConsoleLog):
            raise AbilityMissing(f"machines of type {machine.type} have no console log")
        return driver.console_log(machine_id, limit)

    def figures(self, machine_id: str) -> Figures:
        """Live figures of a running machine; raises NotFound, AbilityMissing, Conflict when it does not run."""
        machine = self.get(machine_id)
        driver = self._converger.watch(machine.type)
        if not isinstance(driver, LiveFigures):
            raise AbilityMissing(f"machines of type {machine.type} have no live figures")
        if machine.state not in (State.RUNNING, State.PAUSED):
            raise Conflict(f"machine {machine_id} does not run: it is {machine.state}")
        return driver.figures(machine_id)

    # Helpers in the order in which they are called

    def _check_order(self, assignment: Assignment | None) -> None:
        """Refuse at once what would be refused when it is written."""
        if assignment is not None:
            with self._database.read() as connection:
                self._leases.check(connection, assignment)

    def _is_unknown(self, machine_id: str) -> bool:
        """Whether there is no machine of that id; that one was removed proves nothing of what engines have by now."""
        with self._database.read() as connection:
            return table.find(connection, machine_id) is None

    def _of_key(self, key: str, fingerprint: str) -> Machine | None:
        with self._database.read() as connection:
            machine_id = idempotency.machine_of(connection, key, fingerprint)
            return self._get(connection, machine_id) if machine_id is not None else None

    def _draft(self, spec: MachineSpec, choice: ImageChoice, network: GuestNetwork | None) -> Machine:
        now = self._clock.now()
        machine_id = spec.id or secrets.token_hex(16)
        return Machine(
            **fields_of(MachineShape, spec)
            | {
                "id": machine_id,
                "name": spec.name or machine_id,
                "type": choice.type,
                "ports": tuple(sorted(spec.ports)),
            },
            image_sha256=choice.sha256,
            node=self._host.node,
            wish=spec.state,
            state=State.PENDING,
            reason="",
            address=None,
            mac=_random_mac() if network is not None else None,
            on_node_failure=spec.on_node_failure or _default_policy(network),
            generation=1,
            settled_generation=0,
            boot_id="",
            created_at=now,
            updated_at=now,
        )

    def _insert(
        self,
        machine: Machine,
        network: GuestNetwork | None,
        key: str | None,
        fingerprint: str,
        assignment: Assignment | None,
    ) -> Machine:
        with self._database.write() as transaction:
            if assignment is not None:
                self._leases.check(transaction.connection, assignment)
            earlier = idempotency.machine_of(transaction.connection, key, fingerprint) if key is not None else None
            if earlier is not None:  # the same request came twice at once, and the other one was first
                return self._get(transaction.connection, earlier)
            if network is not None:
                address = table.free_address(transaction.connection, network.subnet, network.gateway)
                machine = replace(machine, address=address)
            self._orphans.check_free(machine.id)
            table.insert_machine(transaction, machine, self._host.capacity)
            reach("machine.create.written")
            if key is not None:
                idempotency.remember(transaction, key, fingerprint, machine)
        return machine

    def _get(self, connection: Connection, machine_id: str) -> Machine:
        machine = table.find(connection, machine_id)
        if machine is not None:
            return machine
        removal = events.removal_of(connection, machine_id)
        if removal is not None:
            raise NotFound(
                f"machine {machine_id} was removed at {removal.at:%Y-%m-%d %H:%M:%S} UTC",
                removed_at=to_wire(removal.at),
            )
        raise NotFound(f"no machine has the id {machine_id[:80]}")


def _check_latest(machine: Machine, assignment: Assignment) -> None:
    """Raise StaleOrder when a later order for a machine was here first: messages overtake one another."""
    if 0 < assignment.order < machine.ordered:
        detail = f"order {assignment.order} for machine {machine.id} comes after order {machine.ordered}"
        raise StaleOrder(detail, stale="order", ordered=machine.ordered)


def _fingerprint(spec: MachineSpec) -> str:
    asked = asdict(spec)
    asked["wish"] = asked.pop("state")  # as earlier versions have it: a request may come again after an upgrade
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def _has_reached(machine: Machine, wish: Wish) -> bool:
    """Whether a machine is so already, and stays so: one that was wished otherwise would be started again, or stopped."""
    return machine.settled and machine.wish is wish and machine.as_wished


def _check_wish(machine: Machine, wish: Wish, driver: Driver | None) -> None:
    if machine.wish is Wish.REMOVED:
        raise Conflict(f"machine {machine.id} is being removed")
    if wish is Wish.PAUSED:
        if not isinstance(driver, Pausable):
            raise AbilityMissing(f"machines of type {machine.type} cannot be paused")
        if machine.state is not State.RUNNING:
            raise Conflict(f"machine {machine.id} is {machine.state}: only a running machine can be paused")
        if not machine.settled:
            raise Conflict(
                f"machine {machine.id} is on its way to be {machine.wish}: it can be paused once it is there"
            )


def _random_mac() -> str:
    """A random address of the range that QEMU's own guests use."""
    return "52:54:00:" + ":".join(f"{byte:02x}" for byte in secrets.token_bytes(3))


def _default_policy(network: GuestNetwork | None) -> NodeFailurePolicy:
    """A virtual machine's disk is on its node, so it stays; a container comes from its image again."""
    return NodeFailurePolicy.RECREATE if network is None else NodeFailurePolicy.STAY
