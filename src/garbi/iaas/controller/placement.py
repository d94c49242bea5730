"""Puts machines on nodes: what a user asks for becomes a machine with a node, a reservation and ports, or a refusal."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from garbi.base.clock import Clock, SystemClock
from garbi.base.documents import fields_of
from garbi.base.errors import AlreadyExists, Busy, NotFound, StaleWrite
from garbi.base.failpoints import reach
from garbi.hyper_api.machines import MachineShape
from garbi.hyper_api.vocabulary import State
from garbi.iaas.controller.choosing import Choice, choose
from garbi.iaas.model.machine import Machine, MachineSpec, Strategy
from garbi.iaas.model.node import Node
from garbi.iaas.model.operation import Operation, OperationKind, OperationState
from garbi.iaas.model.sharing import Shared, share_hosts
from garbi.iaas.model.validation import check_spec
from garbi.iaas.scheduler import Ask, Candidate, Explanation, place
from garbi.iaas.settings import Settings
from garbi.iaas.store import candidates, idempotency, machines, nodes, operations
from garbi.iaas.store.database import Database, Transaction
from garbi.storage.conversion import Undone
from garbi.web.bodies import check

ATTEMPTS = 10
"""How often a placement is tried whose node or port another was given first."""

T = TypeVar("T")


class _LostRace(Exception):
    """What was decided on is no longer so."""


@dataclass(frozen=True, slots=True)
class _World:
    """All nodes, how many machines run on each, and what is left of hosts that several share."""

    nodes: Sequence[Node]
    running: dict[str, int]
    shared: dict[str, Shared]

    @classmethod
    def read(cls, connection: Connection) -> _World:
        found = candidates.nodes_with_load(connection)
        known = [node for node, _ in found]
        return cls(known, {node.name: running for node, running in found}, share_hosts(known))

    def without(self, names: Collection[str]) -> _World:
        """The same without some nodes."""
        return _World([node for node in self.nodes if node.name not in names], self.running, self.shared)


@dataclass(frozen=True, slots=True)
class Accepted:
    """A machine that was asked for. `again`: an earlier request with the same key made it, and this one changed nothing."""

    machine: Machine
    again: bool = False


class Placement:
    """The decisions of the scheduler, made and written down in one transaction."""

    def __init__(self, database: Database, settings: Settings, *, clock: Clock | None = None) -> None:
        self._database = database
        self._strategy = Strategy(settings.strategy)
        self._policies = settings.policies
        self._clock = clock or SystemClock()

    def accept(self, spec: MachineSpec, key: str | None = None) -> Machine:
        """The machine of `answer`."""
        return self.answer(spec, key).machine

    def answer(self, spec: MachineSpec, key: str | None = None) -> Accepted:
        """Write down a new machine with its node, reservation, ports and operation, or nothing of it.

        With an idempotency `key`, a second call returns the machine of the first, as it is by then. Raises InvalidField,
        UnknownImage, AlreadyExists, PortTaken, NothingFits; Conflict when the key was used for something else; NoSpace; Busy.
        """
        check(spec)
        check_spec(spec)
        fingerprint = _fingerprint(spec)
        if key is not None:
            with self._database.read() as connection:
                earlier = self._earlier(connection, key, fingerprint)
            if earlier is not None:
                return Accepted(earlier, again=True)
        self._database.require_room()
        machine_id = spec.id or secrets.token_hex(16)
        return self._tried(lambda transaction: self._accept(transaction, spec, machine_id, key, fingerprint))

    def explain(self, spec: MachineSpec) -> Explanation:
        """Where the machine would be put, with each node's verdict; nothing is written. Raises InvalidField, UnknownImage."""
        check(spec)
        check_spec(spec)
        with self._database.read() as connection:
            world = _World.read(connection)
            ask = self._ask(spec, choose(connection, spec, world.nodes, self._policies))
            return _place(connection, world, ask, spec.labels)

    def explain_again(self, machine: Machine) -> Explanation:
        """Where a machine would go that leaves its node, with each other node's verdict; nothing is written."""
        with self._database.read() as connection:
            world = _World.read(connection).without({str(machine.node)})
            return _place(connection, world, self._ask_again(machine), machine.labels, but=machine.id)

    def replace(self, machine: Machine, exclude: Collection[str] = ()) -> Machine:
        """Assign a machine to another node than its own and those of `exclude`.

        Raises NothingFits when no other can take it, NotFound when it is gone, StaleWrite when it was assigned anew or wished
        away since it was read.
        """
        return self._tried(lambda transaction: self._replace(transaction, machine, {*exclude}))

    # Helpers in the order in which they are called

    def _earlier(self, connection: Connection, key: str, fingerprint: str) -> Machine | None:
        machine_id = idempotency.machine_of(connection, key, fingerprint)
        if machine_id is None:
            return None
        machine = machines.find(connection, machine_id)
        if machine is None:
            raise NotFound(f"machine {machine_id}, which this Idempotency-Key made, was removed")
        return machine

    def _tried(self, work: Callable[[Transaction], T]) -> T:
        """Do the work in a transaction, anew when another was first; what it then finds is the reason of the refusal."""
        for _ in range(ATTEMPTS):
            try:
                with self._database.write() as transaction:
                    return work(transaction)
            except (_LostRace, IntegrityError, Undone):
                continue
        raise Busy(f"others were first {ATTEMPTS} times; ask again")

    def _accept(
        self, transaction: Transaction, spec: MachineSpec, machine_id: str, key: str | None, fingerprint: str
    ) -> Accepted:
        connection = transaction.connection
        same = self._earlier(connection, key, fingerprint) if key is not None else None
        if same is not None:  # the same request came twice at once, and the other one was first
            return Accepted(same, again=True)
        if machines.find(connection, machine_id) is not None:
            raise AlreadyExists(f"a machine with the id {machine_id} is here already", field="id")
        world = _World.read(connection)
        choice = choose(connection, spec, world.nodes, self._policies)
        node = _chosen(_place(connection, world, self._ask(spec, choice), spec.labels))
        earlier = machines.removal_of(connection, machine_id)
        epoch = (
            1 if earlier is None else earlier.seq + 1
        )  # higher than any of a machine of that id that may lie on a dead node
        machine = replace(self._draft(spec, machine_id, choice, node), epoch=epoch)
        if not nodes.reserve(transaction, str(machine.node), machine.amounts):
            raise _LostRace
        reach("placement.accept.reserved")
        operations.insert(transaction, _operation(machine))
        machines.insert(transaction, machine)
        if key is not None:
            idempotency.remember(transaction, key, fingerprint, machine)
        reach("placement.accept.written")
        return Accepted(machine)

    def _ask(self, spec: MachineSpec, choice: Choice) -> Ask:
        return Ask(
            type=choice.type,
            amounts=choice.amounts,
            node=spec.node,
            ports=tuple(sorted(spec.ports)),
            require=spec.require,
            apart=None if spec.apart is None else (spec.apart, spec.labels[spec.apart]),
            strategy=spec.strategy or self._strategy,
        )

    def _ask_again(self, machine: Machine) -> Ask:
        """What a machine that is there already asks of another node."""
        return Ask(
            type=machine.type,
            amounts=machine.amounts,
            ports=machine.ports,
            require=machine.require,
            apart=None if machine.apart is None else (machine.apart, machine.labels[machine.apart]),
            strategy=self._strategy,
        )

    def _draft(self, spec: MachineSpec, machine_id: str, choice: Choice, node: str) -> Machine:
        now = self._clock.now()
        return Machine(
            **fields_of(MachineShape, spec)
            | {
                "id": machine_id,
                "name": spec.name or machine_id,
                "type": choice.type,
                "ports": tuple(sorted(spec.ports)),
            },
            image_sha256=choice.sha256,
            disk=choice.amounts.disk,
            node=node,
            require=dict(spec.require),
            apart=spec.apart,
            wish=spec.state,
            state=State.PENDING,
            reason="",
            refused=False,
            address=None,
            on_node_failure=choice.on_node_failure,
            generation=1,
            told_generation=0,
            settled_generation=0,
            epoch=1,
            operation=secrets.token_hex(16),
            seen_at=None,
            created_at=now,
            updated_at=now,
        )

    def _replace(self, transaction: Transaction, machine: Machine, exclude: set[str]) -> Machine:
        connection = transaction.connection
        present = machines.find(connection, machine.id)
        if present is None or present.created_at != machine.created_at:
            raise NotFound(f"machine {machine.id} is gone")
        if present.epoch != machine.epoch:
            raise StaleWrite(f"machine {machine.id} was assigned to {present.node} meanwhile", machine=machine.id)
        world = _World.read(connection).without({*exclude, str(present.node)})
        target = _chosen(_place(connection, world, self._ask_again(present), present.labels, but=present.id))
        if not nodes.reserve(transaction, target, present.amounts):
            raise _LostRace
        reach("placement.replace.reserved")
        return machines.move(transaction, present, target, self._clock.now())


def _place(
    connection: Connection, world: _World, ask: Ask, labels: Mapping[str, str], but: str | None = None
) -> Explanation:
    """What the scheduler makes of the nodes as they stand; the machine whose id is `but` keeps itself from none."""
    taken = candidates.holders(connection, ask.ports)
    avoided = candidates.nodes_to_avoid(connection, labels, ask.apart[0] if ask.apart else None, but)
    if ask.apart is None:  # those that are there may have asked to be apart from it
        asked = {label for node, label in avoided.items()}
        ask = replace(ask, apart=min(asked, default=None))
    value = ask.apart[1] if ask.apart else ""
    return place(
        ask,
        [
            Candidate(
                node=node,
                running=world.running[node.name],
                shared=world.shared.get(node.name),
                taken_ports=taken.get(node.name, {}),
                apart_values=frozenset({value} if node.name in avoided else ()),
            )
            for node in world.nodes
        ],
    )


def _chosen(explanation: Explanation) -> str:
    if explanation.chosen is None:
        raise explanation.to_error()
    return explanation.chosen


def _fingerprint(spec: MachineSpec) -> str:
    asked = asdict(spec)
    asked["wish"] = asked.pop("state")  # as earlier versions have it: a request may come again after an upgrade
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def _operation(machine: Machine) -> Operation:
    return Operation(
        id=str(machine.operation),
        kind=OperationKind.MACHINE_ADD,
        target=machine.id,
        state=OperationState.RUNNING,
        step=1,
        steps=1,
        progress=0.0,
        message=f"assigned to {machine.node}",
        error=None,
        created_at=machine.created_at,
        updated_at=machine.created_at,
        finished_at=None,
    )
