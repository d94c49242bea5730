"""A machine: what a user asks for, a virtual machine or a container, and the states it passes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from garbi.base.transitions import Transition, TransitionTable
from garbi.hyper_api.machines import MachineFacts
from garbi.hyper_api.machines import MachineSpec as MachineSpec
from garbi.hyper_api.vocabulary import NodeFailurePolicy as NodeFailurePolicy
from garbi.hyper_api.vocabulary import Protocol as Protocol
from garbi.hyper_api.vocabulary import PublishedPort as PublishedPort
from garbi.hyper_api.vocabulary import RestartPolicy as RestartPolicy
from garbi.hyper_api.vocabulary import State as State
from garbi.hyper_api.vocabulary import Wish as Wish


class Awaits(StrEnum):
    """What a machine waits for, to be brought on by the agent itself; nobody has to wish that.

    ATTEMPT: a step that is owed to what was last wished of it was refused, and is repeated.
    """

    NOTHING = ""
    RESTART = "restart"
    LEASE = "lease"
    ATTEMPT = "attempt"


REACHED = {Wish.RUNNING: State.RUNNING, Wish.STOPPED: State.STOPPED, Wish.PAUSED: State.PAUSED}
"""The state in which a wish is fulfilled; a machine that was to be removed is gone then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine(MachineFacts):
    """A machine as the store keeps it: what travels of it, and what only its host knows.

    `generation` counts the user's wishes; `settled_generation` is the last one that the host fulfilled or gave up on, so that
    a machine that ends by itself is not taken for one that has yet to start. `boot_id` is the boot of the host in which it was
    last started. `image_sha256` pins the content that `image` pointed to when the machine was made. `restarts` counts how often
    the agent started it again by itself since it was last wished to run, or ran for long, `attempts` how many steps toward what
    was last wished of it were refused and no other succeeded since. `lease` is the number of the lease
    under which a controller last gave it an order, `ordered` the number of that order, `keep_s` how many seconds its disk
    outlives it. `engine_life` is the life of its engine in which it was last seen on; empty once it was seen off.
    """

    node: str
    mac: str | None
    generation: int
    settled_generation: int
    boot_id: str
    awaits: Awaits = Awaits.NOTHING
    restarts: int = 0
    attempts: int = 0
    lease: int = 0
    ordered: int = 0
    keep_s: int = 0
    engine_life: str = ""

    @property
    def settled(self) -> bool:
        """Whether the host has done, or given up, what the user last asked for."""
        return self.settled_generation == self.generation

    @property
    def held(self) -> bool:
        """Whether the machine may not run now, and is started again when it may."""
        return self.awaits is Awaits.LEASE and self.state is State.STOPPED

    @property
    def pausing(self) -> bool:
        """Whether it is in the pause before a step of it that was refused is repeated."""
        return self.awaits is Awaits.ATTEMPT and self.state in (State.FAILED, State.RUNNING, State.PAUSED)

    @property
    def as_wished(self) -> bool:
        """Whether it is what was last wished of it."""
        return self.state is REACHED.get(self.wish)

    @property
    def unexplained(self) -> bool:
        """Whether no more is to be expected of it, it is not as it is wished, and nothing says why: that must never be."""
        return self.settled and not self.as_wished and not self.reason


def _rows() -> tuple[Transition[State], ...]:
    s = State
    alive = (s.STARTING, s.RUNNING, s.PAUSED)
    table = [
        (s.PENDING, s.CREATING, "the agent begins"),
        (s.CREATING, s.STOPPED, "made, wish stopped"),
        (s.CREATING, s.STARTING, "made, wish running"),
        (s.STARTING, s.RUNNING, "started"),
        (s.RUNNING, s.PAUSED, "wish paused"),
        (s.PAUSED, s.STARTING, "wish running"),
        (s.PAUSED, s.RUNNING, "resumed outside Garbi"),
        *[(state, s.STOPPING, "wish stopped, or it may not run now") for state in alive],
        (s.STOPPING, s.STOPPED, "it ended, or was powered off at the deadline"),
        (s.STOPPING, s.STARTING, "wish running again"),
        (s.STOPPING, s.RUNNING, "wish running again, and it did not end"),
        *[(state, s.STOPPED, "it ended by itself, or may not run now") for state in alive],
        (s.STOPPED, s.STARTING, "wish running, or it may run again"),
        *[(state, s.RUNNING, "started outside Garbi") for state in (s.CREATING, s.STOPPED)],
        *[(state, s.PAUSED, "paused outside Garbi") for state in (s.CREATING, s.STOPPED, s.STARTING, s.STOPPING)],
        *[
            (state, s.STOPPING, "started outside Garbi, wish stopped or it may not run now")
            for state in (s.CREATING, s.STOPPED)
        ],
        (s.RUNNING, s.STARTING, "the host was rebooted"),
        (s.FAILED, s.CREATING, "wish running or stopped, not made yet"),
        (s.FAILED, s.STARTING, "wish running, or its policy says so"),
        (s.FAILED, s.STOPPING, "wish stopped, or it may not run now"),
        (s.FAILED, s.STOPPED, "wish stopped, or it may not run now"),
        (s.FAILED, s.RUNNING, "found running"),
        (s.FAILED, s.PAUSED, "found paused"),
        *[(state, s.FAILED, "error") for state in (s.PENDING, s.CREATING, s.STOPPED, *alive, s.STOPPING)],
        *[(state, s.CREATING, "what was made is gone") for state in (s.STOPPED, *alive, s.STOPPING)],
        *[
            (state, s.UNKNOWN, "the driver does not answer")
            for state in s
            if state not in (s.UNKNOWN, s.PENDING, s.REMOVING, s.FAILED)
        ],
        *[(s.UNKNOWN, state, "the driver answers again") for state in s if state not in (s.UNKNOWN, s.PENDING)],
        *[(state, s.REMOVING, "wish removed") for state in s if state not in (s.REMOVING, s.UNKNOWN)],
    ]
    return tuple(Transition(*row) for row in table)


TRANSITIONS: TransitionTable[State] = TransitionTable(_rows())
