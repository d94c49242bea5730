"""A machine of the cloud: what a user asked for, where it was put, and what its node says of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from garbi.hyper_api.vocabulary import State, Wish
from garbi.iaas.model.node import Amounts
from garbi.iaas_api.machines import MachineFacts
from garbi.iaas_api.machines import MachineSpec as MachineSpec
from garbi.iaas_api.machines import Strategy as Strategy


class Moving(StrEnum):
    """How far a machine has come on its way to another node; what was begun is completed, whatever becomes of who wanted it."""

    NO = ""
    WANTED = "wanted"
    """It is to leave, and stays if that is called off before anything was done about it."""

    LEAVING = "leaving"
    """It is being removed where it is, and made again elsewhere once nothing of it is there for certain."""

    GONE = "gone"
    """Nothing of it is left where it was: it waits for a node."""


REACHED = {Wish.RUNNING: State.RUNNING, Wish.STOPPED: State.STOPPED, Wish.PAUSED: State.PAUSED}
"""The state in which a wish is fulfilled; a machine that was to be removed is gone then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine(MachineFacts):
    """A machine as the store keeps it: what travels of it, and what only the controller knows.

    Three writers: the user writes the spec and the `wish` (`generation` counts the wishes), the controller the assignment
    (`node`, `epoch`), the node the `state`. `told_generation` is the last wish that the node was told, `settled_generation` the
    last one that it fulfilled or gave up on.
    `refused` tells that its node never took it, so that nothing of it is there. `moving` and `moving_why` are the intent to
    move it away from `node`. `drained` is what it was wished before a drain stopped it, which ends with the next wish of its
    user.
    """

    refused: bool
    generation: int
    told_generation: int
    settled_generation: int
    moving: Moving = Moving.NO
    moving_why: str = ""
    drained: Wish | None = None

    @property
    def settled(self) -> bool:
        """Whether its node has done, or given up, what the user last asked for."""
        return self.settled_generation == self.generation

    @property
    def as_wished(self) -> bool:
        """Whether it is what was last wished of it."""
        return self.state is REACHED.get(self.wish)

    @property
    def unexplained(self) -> bool:
        """Whether no more is to be expected of it, it is not as it is wished, and nothing says why: that must never be."""
        return self.settled and not self.as_wished and not self.reason

    @property
    def amounts(self) -> Amounts:
        """What it reserves on its node."""
        return Amounts(self.mem, self.cpus, self.disk)
