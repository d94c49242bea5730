"""The world behind a fake driver, for tests that play with it: kill a machine, take the daemon away, order a fault."""

from __future__ import annotations

from pathlib import Path

from garbi.base.errors import NotFound
from garbi.hyper.drivers.fake.daemon import FakeDaemon, daemon_in_file, daemon_in_process
from garbi.hyper.drivers.fake.faults import Fault
from garbi.hyper.drivers.fake.machine import FakeMachine


class FakeWorld:
    """What happens to fake machines without the driver's doing. All takes effect at once, and drivers are notified.

    `FakeWorld.of(cluster_id)` is the world of an agent in this process; `FakeWorld.at(data_dir)` that of an agent, in
    any process, whose fake driver has `persist` set and that data directory. `engine` ends the daemon, its machines with it.
    """

    def __init__(self, daemon: FakeDaemon) -> None:
        self._daemon = daemon
        self.engine = daemon.life

    @classmethod
    def of(cls, cluster_id: str) -> FakeWorld:
        """The world, in this process, of the agent with that cluster id."""
        return cls(daemon_in_process(cluster_id))

    @classmethod
    def at(cls, data_dir: Path) -> FakeWorld:
        """The world in that data directory of a fake driver."""
        return cls(daemon_in_file(data_dir))

    def machines(self) -> list[FakeMachine]:
        """Every machine of this world, those planted by hand included."""
        return self._daemon.machines()

    def kept(self) -> list[FakeMachine]:
        """Every machine that was set aside, under the key where it is kept."""
        return self._daemon.attic.all()

    def machine(self, machine_id: str) -> FakeMachine:
        """The machine that an agent made under that id; raises NotFound."""
        for machine in self._daemon.machines():
            if machine.cluster_id and machine.id == machine_id:
                return machine
        raise NotFound(f"no fake machine {machine_id}", id=machine_id)

    def kill(self, machine_id: str, failure: str = "killed from outside") -> None:
        """End the machine as by SIGKILL; `failure` is what the driver says of it. Nothing happens when it is off."""
        self._power_off(machine_id, failure)

    def end(self, machine_id: str) -> None:
        """Let the machine end by itself, in order. Nothing happens when it is off."""
        self._power_off(machine_id, "")

    def make_unavailable(self, reason: str = "the fake daemon was made unavailable") -> None:
        """Let every verb fail with DriverUnavailable; machines keep running."""
        self._daemon.refuse(reason)

    def make_available(self) -> None:
        """Let the daemon answer again."""
        self._daemon.refuse("")

    def fail_next(self, verb: str, code: str, *, machine_id: str | None = None, times: int | None = 1) -> None:
        """Let the next `times` calls of `verb` (for ever: None) fail with that error code; `times=0` takes it back."""
        self._daemon.order_fault(Fault(verb, code, times, machine_id))

    def plant(self, machine: FakeMachine) -> None:
        """Put a machine there by hand, under its key; one without a `cluster_id` belongs to no agent."""
        self._daemon.change(machine.key, lambda _: machine)

    def uproot(self, key: str) -> None:
        """Delete the machine of that key, whoever made it."""
        self._daemon.change(key, lambda _: None)

    def _power_off(self, machine_id: str, failure: str) -> None:
        key = self.machine(machine_id).key
        self._daemon.change(key, lambda found: found.ended(failure) if found is not None and found.powered else found)
