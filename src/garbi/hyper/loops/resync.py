"""Looks at everything once in a while, and whenever it is asked to: what differs from its row is given to the workers."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import replace

from garbi.base.clock import Clock
from garbi.base.errors import TemporaryError
from garbi.hyper.drivers.protocol import Driver, Observation
from garbi.hyper.loops.looking import SURE, look_at_all
from garbi.hyper.loops.publisher import Publisher
from garbi.hyper.model.machine import Machine, State
from garbi.hyper.model.query import MachineQuery
from garbi.hyper.store import machines
from garbi.hyper.store.database import Database

log = logging.getLogger(__name__)


class Resync:
    """The thread that compares all machines with what their drivers see, with one look per driver.

    `watch` gives the driver of a type, `differs` tells whether there is something to do about a machine, and `add` has it done;
    `missed` is told that the driver of a type does not answer.
    """

    def __init__(
        self,
        database: Database,
        publisher: Publisher,
        clock: Clock,
        period_s: float,
        watch: Callable[[str], Driver],
        differs: Callable[[Machine, Observation | None], bool],
        add: Callable[[str, str], None],
        missed: Callable[[str], None],
    ) -> None:
        self._database = database
        self._publisher = publisher
        self._clock = clock
        self._period_s = period_s
        self._watch = watch
        self._differs = differs
        self._add = add
        self._missed = missed
        self.looked_at: float | None = None
        self._lock = threading.Lock()
        self._types: set[str] = set()
        self._all = False
        self._wanted = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="converger-resync", daemon=True)

    def start(self) -> None:
        """Look at everything once, and then once in a while."""
        self._thread.start()

    def want(self, type_name: str | None = None) -> None:
        """Have all machines looked at soon, or those of one type."""
        with self._lock:
            if type_name is None:
                self._all = True
            else:
                self._types.add(type_name)
        self._wanted.set()

    def close(self) -> None:
        """Begin no other look."""
        self._closing.set()
        self._wanted.set()

    def join(self, patience_s: float) -> None:
        """Wait for the end of the look under way, at most so many seconds."""
        self._thread.join(patience_s)

    def _run(self) -> None:
        self._look(None)
        while not self._closing.is_set():
            self._wanted.wait(self._period_s)
            if self._closing.is_set():
                return
            self._look(self._asked())

    def _asked(self) -> set[str] | None:
        """The types that are asked for; None: all, as when the period is over."""
        with self._lock:
            self._wanted.clear()
            only = None if self._all or not self._types else self._types
            self._all, self._types = False, set()
        return only

    def _look(self, only: set[str] | None) -> None:
        """Compare all machines, or those of some types."""
        try:
            self._database.look_at_disk()
            self._database.balance()
            with self._database.read() as connection:
                rows = machines.search(connection, MachineQuery())
            for type_name in sorted({row.type for row in rows if only is None or row.type in only}):
                self._look_at_type(type_name, [row for row in rows if row.type == type_name])
            self._publisher.resync()
            self.looked_at = self._clock.monotonic()
        except Exception:  # the loop has to survive what it cannot foresee
            if not self._closing.is_set():
                log.exception("resync failed")

    def _look_at_type(self, type_name: str, rows: list[Machine]) -> None:
        try:
            driver = self._watch(type_name)
            seen = look_at_all(driver)
        except TemporaryError as error:
            if not self._closing.is_set():  # otherwise the driver was closed under the look
                self._missed(type_name)
                self._mark_unknown(rows, error.detail)
            return
        for row in rows:
            if self._differs(row, seen.get(row.id)):
                self._add(type_name, row.id)
            else:
                self._publisher.arrange(row, driver)

    def _mark_unknown(self, rows: list[Machine], reason: str) -> None:
        """Nothing can be said of these machines; what a worker wrote meanwhile is newer, and stays."""
        with self._database.write() as transaction:
            for row in rows:
                sure = row.state in (*SURE, State.UNKNOWN)
                if not sure and machines.find(transaction.connection, row.id) == row:
                    after = replace(row, state=State.UNKNOWN, reason=reason, updated_at=self._clock.now())
                    machines.save_state(transaction, row, after)
