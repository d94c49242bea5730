"""What an operation on a node is made of: steps that may each be repeated, done one after the other."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from garbi.base.errors import GarbiError
from garbi.iaas.model.operation import Operation
from garbi.iaas.store.database import Transaction

OnProgress = Callable[[float, str], None]
"""Called with how much of a step is done, from 0 to 1, and what is being done."""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do. `weight` is its share of the operation's time, beside those of the others.

    `do` is called with a function that takes progress, and a flag that is raised when the operation is to end early. What it
    did before a crash it finds done when it is called again, so nothing has to be undone.
    """

    name: str
    do: Callable[[OnProgress, threading.Event], None]
    weight: float = 1.0


class Workflow(Protocol):
    """One kind of operation."""

    def steps(self, operation: Operation) -> list[Step]:
        """What is to be done; the same list each time."""

    def conclude(self, transaction: Transaction, operation: Operation) -> str:
        """Write down that all is done, in the transaction in which the operation ends; return what there is to say."""

    def fail(self, transaction: Transaction, operation: Operation, error: GarbiError) -> None:
        """Write down that a step failed for good, in the transaction in which the operation ends."""

    def after(self, operation: Operation) -> None:
        """What follows once it is written down how the operation ended."""
