"""The pretended daemon behind fake drivers: it keeps machines, ends them when they are due, and tells who waits."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from weakref import WeakValueDictionary

from garbi.base.errors import DriverUnavailable
from garbi.hyper.drivers.fake.attic import Attic
from garbi.hyper.drivers.fake.faults import Fault
from garbi.hyper.drivers.fake.life import Life
from garbi.hyper.drivers.fake.machine import FakeMachine
from garbi.hyper.drivers.fake.shelf import FileShelf, MemoryShelf, Shelf

FILE_NAME = "fake.sqlite"
GLANCE_S = 0.05
"""How often a change is looked for where nothing tells of it: another process's write, a machine that is due to end."""

Change = Callable[[FakeMachine | None], FakeMachine | None]


class FakeDaemon:
    """Machines by their key, faults on order, and whether anybody answers."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self.attic = Attic(shelf)
        self._changed = threading.Condition()
        self.life = Life(shelf, self.wake)

    def machines(self) -> list[FakeMachine]:
        """Every machine, whoever made it."""
        return [FakeMachine.from_json(text) for text in self._shelf.all("machine")]

    def machine(self, key: str) -> FakeMachine | None:
        """The machine of that key, whoever made it."""
        text = self._shelf.get("machine", key)
        return FakeMachine.from_json(text) if text is not None else None

    def change(self, key: str, change: Change) -> FakeMachine | None:
        """Replace the machine of that key by what `change` makes of it, in one go; None is no machine."""
        with self._shelf.exclusive():
            before = self.machine(key)
            after = change(before)
            if after == before:
                return after
            if after is None:
                self._shelf.drop("machine", key)
            else:
                self._shelf.put("machine", key, after.to_json())
        self.wake()
        return after

    def refuse(self, reason: str) -> None:
        """Answer nobody from now on, for that reason; answer again when it is empty."""
        with self._shelf.exclusive():
            self._shelf.put("daemon", "unavailable", reason)
            if reason:
                self.life.count_outage()
        self.wake()

    def check_answers(self) -> None:
        """Raise DriverUnavailable when nobody answers."""
        if reason := self._shelf.get("daemon", "unavailable"):
            raise DriverUnavailable(reason)

    def order_fault(self, fault: Fault) -> None:
        """Let the next calls fail."""
        self._shelf.put("fault", f"{fault.verb}@{fault.machine_id or ''}", fault.to_json())

    def take_fault(self, verb: str, machine_id: str | None) -> Fault | None:
        """The fault that strikes this call, spent once."""
        if not self._striking(verb, machine_id):
            return None
        with self._shelf.exclusive():
            for fault in self._striking(verb, machine_id):
                self.order_fault(fault.spent_once())
                return fault
        return None

    def version(self) -> tuple[int, int]:
        """Another value after each change."""
        return self._shelf.version()

    def wait(self, seen: tuple[int, int], done: Callable[[], bool], impatient: bool) -> None:
        """Wait until the version is not `seen`, or `done`; `impatient`: no longer than a glance."""
        glance = GLANCE_S if impatient or self._shelf.shared else None
        with self._changed:
            self._changed.wait_for(lambda: done() or self._shelf.version() != seen, glance)

    def wake(self) -> None:
        """Let all who wait look again."""
        with self._changed:
            self._changed.notify_all()

    def close(self) -> None:
        """Let go of its file; who uses the daemon afterwards opens it again."""
        self._shelf.close()

    def _striking(self, verb: str, machine_id: str | None) -> list[Fault]:
        faults = map(Fault.from_json, self._shelf.all("fault"))
        return [fault for fault in faults if fault.strikes(verb, machine_id)]


_daemons: dict[str, FakeDaemon] = {}
_daemons_in_files: WeakValueDictionary[str, FakeDaemon] = WeakValueDictionary()
"""All that they are is in their files, which are closed with them."""
_daemons_lock = threading.Lock()


def daemon_in_process(cluster_id: str) -> FakeDaemon:
    """The daemon of that cluster in this process, which has one from then on."""
    with _daemons_lock:
        return _daemons.setdefault(cluster_id, FakeDaemon(MemoryShelf()))


def daemon_in_file(data_dir: Path) -> FakeDaemon:
    """The daemon whose machines are in that directory: one object for all of this process, as long as anybody has it."""
    file = Path(data_dir).absolute() / FILE_NAME
    with _daemons_lock:
        found = _daemons_in_files.get(str(file))
        if found is None:
            found = _daemons_in_files[str(file)] = FakeDaemon(FileShelf(file))
        return found
