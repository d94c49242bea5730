"""How an agent takes leave whose host goes down: each controller is told, in the answer to a renewal that it sends anyway."""

from __future__ import annotations

import threading
from collections.abc import Callable

LONGEST_S = 4.0
"""So long the end of the agent waits for the renewals: they come every few seconds."""


class Departure:
    """`controllers` lists those that have a lease which holds."""

    def __init__(self, controllers: Callable[[], set[str]]) -> None:
        self._controllers = controllers
        self._changed = threading.Condition()
        self._begun = False
        self._told: set[str] = set()

    def answer(self, controller: str) -> bool:
        """Whether the host goes down, for the answer to a controller; it is told then."""
        with self._changed:
            if self._begun:
                self._told.add(controller)
                self._changed.notify_all()
            return self._begun

    def begin(self) -> None:
        """Tell each controller from now on."""
        with self._changed:
            self._begun = True

    def take(self) -> None:
        """Tell all controllers, and wait until they are told, a few seconds at most."""
        self.begin()
        with self._changed:
            self._changed.wait_for(lambda: self._controllers() <= self._told, LONGEST_S)
