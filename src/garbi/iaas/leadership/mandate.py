"""Under which authority loops write and give orders: a term, which ends for good when another controller begins one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from garbi.base.clock import Clock
from garbi.base.errors import StaleWrite
from garbi.hyper_api.assignment import Assignment
from garbi.iaas.model.node import Node
from garbi.iaas.store import meta
from garbi.iaas.store.database import Transaction


class Superseded(StaleWrite):
    """Another controller leads now, or may: nothing was written, no order was given."""


@dataclass(frozen=True, slots=True)
class Office:
    """Who holds the mandate: the id of the cloud, and the random name of the process that leads it."""

    controller_id: str
    holder: str


class Mandate:
    """The time from one gain of leadership to its loss. Loops act under the one that they were made for, and no other.

    `doubt` is called, from any thread, when it shows that another controller leads.
    """

    def __init__(self, office: Office, term: int, clock: Clock, doubt: Callable[[], None]) -> None:
        self.controller_id = office.controller_id
        self.holder = office.holder
        self.term = term
        self._clock = clock
        self._doubt = doubt
        self._until = float("inf")
        self._ended = threading.Event()

    @property
    def leads(self) -> bool:
        """Whether it has not ended, as far as is known here without asking anybody."""
        return not self._ended.is_set() and self._clock.since_boot() < self._until

    def extend(self, until: float) -> None:
        """Let it end at `until` (seconds since boot) unless it is extended again: a process that was frozen notices."""
        self._until = until

    def end(self) -> None:
        """Let nothing more be done under it."""
        self._ended.set()

    def check(self, transaction: Transaction) -> None:
        """Raise Superseded when another controller has begun a term; to be asked in each transaction that writes."""
        if self._ended.is_set():
            raise Superseded(f"the term {self.term} of this controller has ended")
        present = meta.get(transaction.connection, meta.TERM)
        if present != str(self.term):
            self.end()
            self._doubt()
            raise Superseded(f"another controller leads: its term is {present}, that of this one was {self.term}")

    def assignment(self, node: Node, epoch: int = 0, order: int = 0) -> Assignment:
        """What an order to a node carries, the `order`-th about a machine of that `epoch`.

        Raises Superseded when no order may be given.
        """
        if not self.leads:
            raise Superseded(f"the term {self.term} of this controller has ended")
        return Assignment(self.controller_id, self.holder, self.term, node.lease, epoch, order)

    def overtaken(self) -> None:
        """A node has heard of a later term, or of another holder of this one: find out who leads."""
        self._doubt()
