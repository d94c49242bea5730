"""The loops of this controller while it leads, made anew each time that it does; who wakes them need not know whether it does.

What a controller that follows writes down wakes the loops of the one that leads: it hears the events, as everybody does.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from garbi.base.clock import Clock
from garbi.base.errors import GarbiError
from garbi.iaas.leadership import Mandate
from garbi.iaas.loops.converger import Converger
from garbi.iaas.loops.foresight import Foresight, WhatIf
from garbi.iaas.loops.runner import OperationRunner
from garbi.iaas.loops.watchers import Watchers
from garbi.iaas.loops.watching import Report
from garbi.iaas.model.event import Event, Subject
from garbi.iaas.model.machine import Machine
from garbi.iaas.nodes import NodeClients
from garbi.iaas.store import events, machines, operations
from garbi.iaas.store.database import Database

log = logging.getLogger(__name__)

PATIENCE_S = 10.0
"""How long the end waits for steps under way; one that takes longer is taken again at the next start."""


class Loop(Protocol):
    """Threads that work from `start` to `stop`."""

    def start(self) -> None:
        """Begin to work."""

    def stop(self) -> None:
        """Begin nothing more."""

    def join(self, patience_s: float) -> None:
        """Wait for the threads, at most `patience_s` seconds altogether."""


@dataclass(frozen=True, slots=True)
class Loops:
    """All that works under one mandate."""

    clients: NodeClients
    converger: Converger
    watchers: Watchers
    runner: OperationRunner
    foresight: Foresight
    others: tuple[Loop, ...] = ()

    def in_order(self) -> tuple[Loop, ...]:
        """As they are started; they are stopped the other way round."""
        return (self.converger, self.watchers, self.runner, *self.others)


class Work:
    """The loops, or none. `make` puts those of a mandate together."""

    def __init__(self, database: Database, make: Callable[[Mandate], Loops], clock: Clock) -> None:
        self._database = database
        self._make = make
        self._clock = clock
        self._changing = threading.Lock()
        self._loops: Loops | None = None
        self._closed = False

    def begin(self, mandate: Mandate) -> None:
        """Take up what was begun: machines that are not yet as they are wished, operations, the watch over the nodes."""
        with self._changing:
            if self._closed:
                return
            loops = self._loops = self._make(mandate)
            with self._database.read() as connection:
                unsettled = [machine for machine in machines.search(connection) if not machine.settled]
            for machine in unsettled:
                loops.converger.wake(machine)
            for loop in loops.in_order():
                loop.start()

    def end(self) -> None:
        """Stop at once; what was begun is taken up by who leads next."""
        with self._changing:
            loops, self._loops = self._loops, None
        if loops is not None:
            self._stop(loops)

    def close(self) -> None:
        """Stop, and begin never again."""
        with self._changing:
            self._closed = True
        self.end()

    def _stop(self, loops: Loops) -> None:
        for loop in reversed(loops.in_order()):
            loop.stop()
        loops.clients.close()
        deadline = self._clock.monotonic() + PATIENCE_S
        for loop in reversed(loops.in_order()):
            loop.join(max(deadline - self._clock.monotonic(), 0))

    def wake(self, machine: Machine) -> None:
        """Have a machine looked at now."""
        loops = self._loops
        if loops is not None:
            loops.converger.wake(machine)

    def wake_operations(self, node: str) -> None:
        """Have the operations of a node looked at now."""
        loops = self._loops
        if loops is not None:
            loops.runner.wake(node)

    def cancel(self, operation_id: str) -> None:
        """Have an operation end early."""
        loops = self._loops
        if loops is not None:
            loops.runner.cancel(operation_id)

    def look_soon(self, node: str) -> None:
        """Have a node asked how it is now, with the secret that it has by now."""
        loops = self._loops
        if loops is not None:
            loops.watchers.look_soon(node)

    def report_of(self, node: str) -> Report | None:
        """What a node last said, if this controller has heard it."""
        loops = self._loops
        return loops.watchers.report_of(node) if loops is not None else None

    def foresee(self, node: str) -> WhatIf | None:
        """What would follow if a node died now; None while this controller does not lead. Raises NotFound."""
        loops = self._loops
        return loops.foresight.of(node) if loops is not None else None

    def hear(self, heard: Sequence[Event]) -> None:
        """Have looked at what others have written about."""
        loops = self._loops
        if loops is None:
            return
        try:
            for event in heard:
                self._follow(loops, event)
        except GarbiError as error:
            log.warning("what another controller wrote was not taken up", extra={"detail": error.detail})

    def _follow(self, loops: Loops, event: Event) -> None:
        with self._database.read() as connection:
            if event.subject is Subject.MACHINE:
                machine = machines.find(connection, event.id)
                if machine is not None:
                    loops.converger.wake(machine)
            elif event.subject is Subject.NODE and event.kind == events.Kind.CHANGED:
                loops.watchers.look_soon(event.id)
            elif event.subject is Subject.OPERATION:
                operation = operations.find(connection, event.id)
                if operation is not None and operation.kind in loops.runner.kinds:
                    loops.runner.wake(operation.target)
                    loops.runner.cancel_older(operation)
