"""The events of the pretended daemon: a thread that looks whenever something changed, and reports what did."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from garbi.base.errors import GarbiError
from garbi.hyper.drivers.fake.daemon import FakeDaemon
from garbi.hyper.drivers.fake.machine import FakeMachine
from garbi.hyper.drivers.protocol import Notify


@dataclass(frozen=True, slots=True)
class Glance:
    """One look at the daemon: how often it went away so far, and our machines by id."""

    outages: int
    machines: Mapping[str, FakeMachine]


_log = logging.getLogger(__name__)


class Watcher:
    """Reports every change that happens after it was made, until closed; `look` lists our machines."""

    def __init__(self, daemon: FakeDaemon, look: Callable[[], list[FakeMachine]], notify: Notify) -> None:
        self._daemon = daemon
        self._look = look
        self._notify = notify
        self._closed = threading.Event()
        self._version, self._seen = daemon.version(), self._glance()
        self._thread = threading.Thread(target=self._run, name="fake-driver-watch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop reporting; waits for a report that is being made."""
        self._closed.set()
        self._daemon.wake()
        if self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        while not self._closed.is_set():
            ending = self._seen is not None and any(each.ends_at is not None for each in self._seen.machines.values())
            self._daemon.wait(self._version, self._closed.is_set, impatient=ending)
            self._version, before = self._daemon.version(), self._seen
            self._seen = self._glance()
            for machine_id in changes(before, self._seen):
                self._tell(machine_id)

    def _glance(self) -> Glance | None:
        try:
            return Glance(self._daemon.life.outages(), {machine.id: machine for machine in self._look()})
        except GarbiError:
            return None

    def _tell(self, machine_id: str | None) -> None:
        if self._closed.is_set():
            return
        try:
            self._notify(machine_id)
        except Exception:  # whatever the listener does, the next change must still be reported
            _log.exception("reporting a change of machine %s failed", machine_id)


def changes(before: Glance | None, after: Glance | None) -> list[str | None]:
    """The ids of the machines that changed; None alone when any may have, because the daemon was away (no glance)."""
    if after is None:
        return []
    if before is None or before.outages != after.outages:
        return [None]
    old, new = before.machines, after.machines
    return [key for key in old.keys() | new.keys() if _traits(old.get(key)) != _traits(new.get(key))]


def _traits(machine: FakeMachine | None) -> tuple[object, ...] | None:
    return None if machine is None else (machine.condition, machine.failure, machine.power_ons)
