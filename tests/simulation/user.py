"""A user of a simulated cloud: makes, stops, starts, removes machines, asks again when no answer came, remembers everything."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from tests.simulation.cloud import Cloud, Cut

from garbi.base.errors import AlreadyInState, Conflict, GarbiError, NotFound, TemporaryError
from garbi.hyper_api.vocabulary import NodeFailurePolicy, PublishedPort, RestartPolicy, Wish
from garbi.iaas.controller import Controller
from garbi.iaas.model.machine import Machine, MachineSpec

if TYPE_CHECKING:
    from tests.simulation.kernel import Task

T = TypeVar("T")

AGAIN_S = 5.0
PORTS = range(20000, 20006)
"""Few, so that machines want the same one."""

POLICIES = (RestartPolicy.NO, RestartPolicy.ON_FAILURE, RestartPolicy.ON_FAILURE, RestartPolicy.ALWAYS)


@dataclass
class Owned:
    """A machine that the user was promised, and what was last asked of it."""

    id: str
    spec: MachineSpec
    wish: Wish = Wish.RUNNING
    gone: bool = False
    """Whether its removal was promised."""

    asked_at: float = 0.0
    rests: bool = False
    """Whether it was stopped as wished, so that nobody may start it."""


@dataclass
class User:
    """Asks one thing after the other; `pause_s` is the mean time between two."""

    cloud: Cloud
    pause_s: float
    most: int = 12
    machines: dict[str, Owned] = field(default_factory=dict)
    refused: int = 0
    asked: int = 0
    leaving: bool = False
    busy: bool = False
    pauses: bool = False
    """Whether machines are to be paused at times."""

    def __post_init__(self) -> None:
        self.dice = random.Random(f"user-{self.cloud.seed}")

    def start(self) -> Task:
        """Begin to ask for things."""
        return self.cloud.nature.spawn("user", self._live)

    def take_to_pausing(self) -> None:
        """Ask for machines to be paused, too, from now on."""
        self.pauses = True

    def alive(self) -> list[Owned]:
        """The machines that the user has."""
        return [each for each in self.machines.values() if not each.gone]

    def _live(self) -> None:
        while not self.leaving:
            self.cloud.kernel.sleep(self.dice.expovariate(1 / self.pause_s))
            if self.leaving:
                return
            self.busy = True
            self._do_something()
            self.busy = False

    def _do_something(self) -> None:
        mine = self.alive()
        roll = self.dice.random()
        if len(mine) < 3 or (roll < 0.35 and len(mine) < self.most):
            self._add()
        elif roll < 0.6:
            self._remove(self.dice.choice(mine))
        else:
            machine = self.dice.choice(mine)
            if self.pauses and machine.wish is Wish.RUNNING and self.dice.random() < 0.4:
                self._wish(machine, Wish.PAUSED)
                return
            self._wish(machine, Wish.STOPPED if machine.wish is Wish.RUNNING else Wish.RUNNING)

    def _add(self) -> None:
        spec = self._invent()
        key = f"{self.dice.getrandbits(64):016x}"
        self.asked += 1
        twice = self.dice.random() < 0.2
        if twice:
            self.cloud.nature.spawn("user-again", lambda: self._insist(lambda c: c.machines.add(spec, key)))
        machine = self._insist(lambda controller: self._added(controller, spec, key))
        if machine is None:
            self.refused += 1
            return
        earlier = self.machines.get(machine.id)
        if earlier is not None:
            self.cloud.kernel.violate(f"I9 machine {machine.id} was promised twice")
        self.machines[machine.id] = Owned(machine.id, spec, Wish.RUNNING, asked_at=self.cloud.kernel.now)
        self.cloud.kernel.note(f"user: has {machine.id[:8]} on {machine.node}")
        again = self._insist(lambda controller: controller.machines.add(spec, key))
        if again is not None and again.id != machine.id:
            self.cloud.kernel.violate(f"I9 one key made machines {machine.id} and {again.id}")

    def _added(self, controller: Controller, spec: MachineSpec, key: str) -> Machine:
        """Add a machine; nobody else has its ports from then on (I2)."""
        machine = controller.machines.add(spec, key)
        for port in spec.ports:
            owners = [each.id for each in controller.machines.list({"node": str(machine.node)}) if port in each.ports]
            if len(owners) > 1:
                self.cloud.kernel.violate(f"I2 port {port} of {machine.node} belongs to {' and '.join(owners)}")
        return machine

    def _invent(self) -> MachineSpec:
        dice = self.dice
        ports: tuple[PublishedPort, ...] = ()
        node = None
        if dice.random() < 0.5:
            node = dice.choice([*self.cloud.nodes])
            ports = (PublishedPort(dice.choice(PORTS), 80),)
        stays = dice.random() < 0.25
        return MachineSpec(
            image="any",
            type="fake",
            mem=dice.choice((128, 256, 512, 1024)),
            node=node,
            ports=ports,
            restart=dice.choice(POLICIES),
            on_node_failure=NodeFailurePolicy.STAY if stays else NodeFailurePolicy.RECREATE,
        )

    def _remove(self, machine: Owned) -> None:
        self.cloud.kernel.note(f"user: removes {machine.id[:8]}")
        self.asked += 1
        machine.wish, machine.asked_at = Wish.REMOVED, self.cloud.kernel.now
        self._insist(lambda controller: controller.machines.remove(machine.id))
        machine.gone = True
        if self.dice.random() < 0.3:  # again, which must be as good (I8)
            self._insist(lambda controller: controller.machines.remove(machine.id))

    def _wish(self, machine: Owned, wish: Wish) -> None:
        self.cloud.kernel.note(f"user: wishes {machine.id[:8]} {wish}")
        self.asked += 1
        before, machine.wish, machine.asked_at = machine.wish, wish, self.cloud.kernel.now
        machine.rests = False
        try:
            answer = self._insist(lambda controller: self._wished(controller, machine, wish))
        except _Refused:
            machine.wish = before
            return
        if answer is not None and answer.wish is not wish:
            self.cloud.kernel.violate(f"machine {machine.id} was wished {wish}, and is to be {answer.wish}")

    def _wished(self, controller: Controller, machine: Owned, wish: Wish) -> Machine:
        try:
            return controller.machines.wish(machine.id, wish)
        except AlreadyInState as error:  # it ended by itself; what was wished before stays wished
            present = controller.machines.get(machine.id)
            if present.wish is wish:
                return present
            raise _Refused(error.detail) from error
        except NotFound:
            self.cloud.kernel.violate(f"I4 machine {machine.id} is gone, and nobody removed it")
            raise
        except Conflict as error:
            raise _Refused(error.detail) from error

    def _insist(self, work: Callable[[Controller], T]) -> T | None:
        """Ask until there is an answer; None when it is a refusal."""
        while True:
            try:
                return self.cloud.ask(work)
            except Cut:
                pass
            except _Refused:
                raise
            except TemporaryError as error:
                self.cloud.kernel.note(f"user: put off: {error.code}")
                if error.code in ("nothing-fits",):
                    return None
            except GarbiError as error:
                self.cloud.kernel.note(f"user: refused: {error.code}")
                return None
            self.cloud.kernel.sleep(AGAIN_S)


class _Refused(GarbiError):
    """What was wished cannot be from here."""
