"""Who has a machine in hand: its worker, or an operation that moves it; never both."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Hands:
    """Machines in hand, by their ids. A worker that comes too late goes its way; an operation waits its turn."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._held: set[str] = set()

    def try_take(self, machine_id: str) -> bool:
        """Take a machine in hand if nobody has it; `release` must follow then."""
        with self._changed:
            if machine_id in self._held:
                return False
            self._held.add(machine_id)
            return True

    def release(self, machine_id: str) -> None:
        """Let others have the machine."""
        with self._changed:
            self._held.discard(machine_id)
            self._changed.notify_all()

    @contextmanager
    def holding(self, machine_id: str) -> Iterator[None]:
        """Have a machine in hand for as long as the block runs; wait until nobody else has."""
        with self._changed:
            self._changed.wait_for(lambda: machine_id not in self._held)
            self._held.add(machine_id)
        try:
            yield
        finally:
            self.release(machine_id)
