"""What really runs where: the fake worlds of all hosts, looked at whenever one of them changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from tests.simulation.history import Blow, History
from tests.simulation.hosts import SimHost
from tests.simulation.kernel import Kernel
from tests.simulation.threads import present_process

from garbi.hyper.drivers.fake import driver as fake_driver
from garbi.hyper.drivers.fake.daemon import FakeDaemon
from garbi.hyper.drivers.fake.machine import FakeMachine
from garbi.hyper.drivers.fake.shelf import MemoryShelf

_worlds: list[Worlds] = []
_change = FakeDaemon.change


class Worlds:
    """The machines of all hosts: one pretended daemon each, whichever agents use it. Invariant I1 is checked at each change."""

    def __init__(self, present: Kernel) -> None:
        self._kernel = present
        self._hosts: dict[str, SimHost] = {}
        self._daemons: dict[str, FakeDaemon] = {}
        self._host_of: dict[FakeDaemon, SimHost] = {}
        self.history = History(present, self._host_of)
        self.starts = 0
        self.ends = 0
        self.drained: dict[str, float] = {}
        self.on_start: Callable[[SimHost, FakeMachine], None] | None = None
        self.on_end: Callable[[SimHost, FakeMachine], None] | None = None
        self._expected: dict[str, float] = {}
        _worlds[:] = [self]
        FakeDaemon.change = _watched  # type: ignore[method-assign]
        fake_driver.daemon_in_process = lambda _cluster_id: self.daemon(present_process().host)  # type: ignore[attr-defined]

    def daemon(self, host: SimHost) -> FakeDaemon:
        """What keeps the machines of a host, whatever its agent takes itself for."""
        if host.name not in self._daemons:
            self._hosts[host.name], made = host, FakeDaemon(MemoryShelf())
            self._daemons[host.name], self._host_of[made] = made, host
        return self._daemons[host.name]

    def running(self, host: SimHost) -> list[FakeMachine]:
        """What runs on a host; nothing does on one that is off."""
        return [each for each in self.of(host) if each.powered] if host.on else []

    def of(self, host: SimHost) -> list[FakeMachine]:
        """Every machine that a host has, as it is now."""
        now = host.clock.monotonic()
        return [each.at(now) for each in self.daemon(host).machines()]

    def find(self, host: SimHost, machine_id: str) -> FakeMachine | None:
        """The machine of that id on a host, as it is now."""
        found = [each for each in self.of(host) if each.id == machine_id]
        return next((each for each in found if each.powered), found[0] if found else None)

    def power_off(self, host: SimHost) -> None:
        """The host lost its power, and its machines with it."""
        for machine in self.running_records(host):
            self.history.note(machine.id, host.name, Blow.LOST_POWER)
            self.daemon(host).change(machine.key, lambda found: found and found.ended())

    def running_records(self, host: SimHost) -> Iterator[FakeMachine]:
        """What ran on a host when it last had power."""
        yield from [each for each in self.daemon(host).machines() if each.powered]

    def places_of(self, machine_id: str) -> list[SimHost]:
        """The hosts on which a machine runs, whatever anybody believes."""
        found = []
        for host in self._hosts.values():
            if host.on:
                machine = self.find(host, machine_id)
                if machine is not None and machine.powered:
                    found.append(host)
        return found

    def check_alone(self, machine_id: str) -> None:
        """I1: it runs on one host at most. What stands still, or has just woken and not looked yet, does nothing."""
        places = [
            host
            for host in self._hosts.values()
            if host.on and not host.frozen and not host.waking
            for each in self.running(host)
            if each.id == machine_id
        ]
        if len(places) > 1:
            self._kernel.violate(f"I1 machine {machine_id} runs on {' and '.join(host.name for host in places)}")

    def has_looked(self, host: SimHost) -> None:
        """The watchdog of a host that was frozen has done its first work since."""
        if host.waking:
            host.waking = False
            for machine in self.running(host):
                self.check_alone(machine.id)

    def expect_end(self, machine_id: str) -> None:
        """We end this machine ourselves."""
        self._expected[machine_id] = self._kernel.now

    def expect_drain(self, host: SimHost) -> None:
        """Machines of that host are about to be moved and stopped by order."""
        self.drained[host.name] = self._kernel.now

    def changed(self, daemon: FakeDaemon, before: FakeMachine | None, after: FakeMachine | None) -> None:
        """A record of some host has changed."""
        was, is_now = before is not None and before.powered, after is not None and after.powered
        machine = after or before
        if was == is_now or machine is None:
            return
        host = self._host_of[daemon]
        self._kernel.note(f"{machine.id[:8]} {'on' if is_now else 'off'} at {host.name}")
        if is_now:
            self.starts += 1
            self.check_alone(machine.id)
            if self.on_start is not None:
                self.on_start(host, machine)
        else:
            self.ends += 1
            if self.on_end is not None and self._expected.pop(machine.id, None) is None:
                self.on_end(host, machine)


def _watched(self: FakeDaemon, key: str, change: Callable[[Any], Any]) -> Any:
    seen: list[Any] = []

    def recorded(found: Any) -> Any:
        made = change(found)
        seen.append((found, made))
        return made

    result = _change(self, key, recorded)
    for before, after in seen:
        _worlds[-1].changed(self, before, after)
    return result
