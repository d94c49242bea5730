"""The lives of the pretended daemon: one that ends takes its machines along, one that begins may not know them yet."""

from __future__ import annotations

from collections.abc import Callable

from garbi.hyper.drivers.fake.machine import FakeMachine
from garbi.hyper.drivers.fake.shelf import Shelf


class Life:
    """The present life of one daemon; `wake` has those look again who watch it."""

    def __init__(self, shelf: Shelf, wake: Callable[[], None]) -> None:
        self._shelf = shelf
        self._wake = wake

    def number(self) -> str:
        """The number of the present life."""
        return self._shelf.get("daemon", "lives") or "1"

    def outages(self) -> int:
        """How often it went away: who looks too seldom to see it away sees the number grow."""
        return int(self._shelf.get("daemon", "outages") or 0)

    def count_outage(self) -> None:
        """It goes away."""
        self._shelf.put("daemon", "outages", str(self.outages() + 1))

    def end(self) -> None:
        """End, every machine in order with it, and begin the next life."""
        with self._shelf.exclusive():
            for machine in map(FakeMachine.from_json, self._shelf.all("machine")):
                if machine.powered:
                    self._shelf.put("machine", machine.key, machine.ended().to_json())
            self._shelf.put("daemon", "lives", str(int(self.number()) + 1))
            self.count_outage()
        self._wake()

    def name_machines(self, names: bool) -> None:
        """List what there is; or not a machine, as an engine in its start that has yet to read them."""
        self._shelf.put("daemon", "loading", "" if names else "yes")
        self._wake()

    @property
    def names_machines(self) -> bool:
        """Whether it lists what it has."""
        return not self._shelf.get("daemon", "loading")
