"""What stands in the way of a call to the fake driver: a daemon that does not answer, time, a fault on order."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from garbi.base.clock import Clock
from garbi.base.errors import DriverUnavailable
from garbi.hyper.drivers.fake.daemon import GLANCE_S, FakeDaemon
from garbi.hyper.drivers.fake.faults import FakeSettings, Fault


class Obstacles:
    """The obstacles of one driver: those of its settings, and those that its daemon was given."""

    def __init__(self, settings: FakeSettings, mistake: str, daemon: FakeDaemon, clock: Clock) -> None:
        self._settings = settings
        self._mistake = mistake
        self._daemon = daemon
        self._clock = clock
        self._faults = list(settings.faults)
        self._lock = threading.Lock()
        self._closed = threading.Event()

    @property
    def delays(self) -> Mapping[str, float]:
        """Seconds by verb."""
        return self._settings.delays

    def check_answers(self) -> None:
        """Raise DriverUnavailable when the daemon does not answer this driver."""
        if self._mistake:
            raise DriverUnavailable(f"the settings of the fake driver are wrong: {self._mistake}")
        if self._closed.is_set():
            raise DriverUnavailable("the fake driver was closed")
        if self._settings.unavailable:
            raise DriverUnavailable("the fake driver is set to be unavailable")
        self._daemon.check_answers()

    def pass_by(self, verb: str, machine_id: str | None = None) -> None:
        """Take the time that the call takes (`stop` takes none: the machine does), and fail where that was ordered."""
        self.check_answers()
        if verb != "stop":
            self._wait(self.delays[verb])
            self.check_answers()
        fault = self._take_fault(verb, machine_id) or self._daemon.take_fault(verb, machine_id)
        if fault is not None:
            raise fault.error()

    def close(self) -> None:
        """Let nothing pass any more, and end every wait."""
        self._closed.set()

    def _wait(self, seconds: float) -> None:
        """Let that time pass on the context's clock, which may not be the real one."""
        end = self._clock.monotonic() + seconds
        while (rest := end - self._clock.monotonic()) > 0:
            if self._closed.wait(min(rest, GLANCE_S)):
                return

    def _take_fault(self, verb: str, machine_id: str | None) -> Fault | None:
        with self._lock:
            for place, fault in enumerate(self._faults):
                if fault.strikes(verb, machine_id):
                    self._faults[place] = fault.spent_once()
                    return fault
        return None
