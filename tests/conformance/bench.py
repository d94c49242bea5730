"""What one test of the suite works with: a cluster of its own, drivers for it, machines in them, and a way to wait."""

from __future__ import annotations

import itertools
import secrets
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.conformance.subjects import Subject

from garbi.hyper.drivers.protocol import Condition, Driver, MachineDefinition, NetworkAttached, Observation

_pause = threading.Event()
_numbers = itertools.count(1)


def eventually(what: str, check: Callable[[], object], within_s: float) -> None:
    """Wait until `check` is true; fail, saying what was waited for, when it is not in that time."""
    end = time.monotonic() + within_s
    while not check():
        assert time.monotonic() < end, f"{what}: not within {within_s} s"
        _pause.wait(0.02)


class Bench:
    """One cluster id and its data directory on one subject."""

    def __init__(self, subject: Subject, work_dir: Path, cluster_id: str, data_dir: Path) -> None:
        self.subject = subject
        self.work_dir = work_dir
        self.cluster_id = cluster_id
        self.data_dir = data_dir
        self._drivers: list[Driver] = []

    def driver(self) -> Driver:
        """A driver of this cluster with the image prepared; each further one is the agent restarted."""
        driver = self.subject.make_driver(self.cluster_id, self.data_dir)
        self._drivers.append(driver)
        driver.prepare(self.subject.image())
        return driver

    def define(self, driver: Driver, machine_id: str, **changes: Any) -> MachineDefinition:
        """A small machine, with an address where the driver wants one; the same for the same id."""
        fields: dict[str, Any] = {"name": machine_id, "image": self.subject.image(), "mem": 192, "cpus": 1} | changes
        if isinstance(driver, NetworkAttached):
            number = int(machine_id.rpartition("-")[2])
            fields["address"] = str(driver.guest_network().subnet[10 + number % 200])
            fields["mac"] = "52:54:00:" + number.to_bytes(3, "big").hex(":")
        return MachineDefinition(id=machine_id, **fields)

    def define_without_network(self, machine_id: str) -> MachineDefinition:
        """A small machine, its address made up: for a driver that cannot be asked for its network."""
        image = self.subject.image()
        return MachineDefinition(machine_id, machine_id, image, 192, 1, address="192.0.2.10", mac="52:54:00:00:00:10")

    def add(self, driver: Driver, machine_id: str = "", **changes: Any) -> str:
        """Make a machine; return its id."""
        machine_id = machine_id or new_id()
        driver.add(self.define(driver, machine_id, **changes))
        return machine_id

    def run(self, driver: Driver, machine_id: str = "", **changes: Any) -> str:
        """Make a machine and start it; return its id."""
        machine_id = self.add(driver, machine_id, **changes)
        driver.start(machine_id)
        assert self.condition(driver, machine_id) is Condition.RUNNING
        return machine_id

    def look(self, driver: Driver, machine_id: str) -> Observation | None:
        """What the driver observes of the machine; None when it sees nothing of it."""
        seen = driver.observe(machine_id)
        assert [one.machine_id for one in seen] in ([], [machine_id])
        return seen[0] if seen else None

    def condition(self, driver: Driver, machine_id: str) -> Condition | None:
        """The condition of the machine; None when the driver sees nothing of it."""
        seen = self.look(driver, machine_id)
        return None if seen is None else seen.condition

    def wait_for(self, driver: Driver, machine_id: str, condition: Condition) -> Observation:
        """Wait until the machine is observed in that condition."""
        eventually(
            f"{machine_id} {condition}",
            lambda: self.condition(driver, machine_id) is condition,
            self.subject.notice_s,
        )
        seen = self.look(driver, machine_id)
        assert seen is not None
        return seen

    def end(self, driver: Driver, machine_id: str) -> Observation:
        """Ask the machine to end until it does, as a user would who sees that a booting guest does not listen yet."""

        def asked() -> bool:
            driver.stop(machine_id)
            _pause.wait(0.2)
            return self.condition(driver, machine_id) is Condition.STOPPED

        eventually(f"{machine_id} ends when asked", asked, self.subject.notice_s)
        return self.wait_for(driver, machine_id, Condition.STOPPED)

    def incarnation(self, machine_id: str) -> str:
        """Which run of the machine this is."""
        return self.subject.incarnation(self.cluster_id, machine_id)

    def leftovers(self) -> list[str]:
        """What still carries the mark of this cluster."""
        return self.subject.leftovers(self.cluster_id)

    def close(self) -> None:
        """Let go of the drivers, then delete everything of this cluster and beside it, whatever fails on the way."""
        with ExitStack() as last:
            last.callback(self.subject.sweep, self.cluster_id)
            last.callback(self.subject.remove_foreign)
            for driver in self._drivers:
                last.callback(driver.close)


def new_id() -> str:
    """An id that no other machine has; its number gives the machine an address that none of its neighbours has."""
    return f"m-{secrets.token_hex(4)}-{next(_numbers)}"
