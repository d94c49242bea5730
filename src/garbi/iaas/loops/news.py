"""Why machines wait for their workers: an event that says no more than what is written down is no reason to ask a node."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from garbi.hyper_api.vocabulary import State


@dataclass(frozen=True, slots=True)
class Word:
    """What an event of a node says of a machine."""

    state: State
    reason: str


class News:
    """The last word of each machine that waits, or that it is to be looked at whatever is said. For several threads at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._said: dict[str, Word | None] = {}

    def hear(self, machine_id: str, word: Word) -> None:
        """Note the newest word of a machine; one that is to be looked at anyway stays so."""
        with self._lock:
            if self._said.get(machine_id, word) is not None:
                self._said[machine_id] = word

    def want(self, machine_id: str) -> None:
        """Have a machine looked at whatever is said of it."""
        with self._lock:
            self._said[machine_id] = None

    def take(self, machine_id: str) -> Word | None:
        """The last word, which is not kept; None: the machine is to be looked at."""
        with self._lock:
            return self._said.pop(machine_id, None)
