"""The hosts of a simulated cloud: their clocks and boots, and what happens to them: power cuts, freezes, clocks that are set."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.simulation.kernel import Kernel, Numbered, Process

EPOCH = datetime(2030, 1, 1, tzinfo=UTC)


@dataclass(eq=False)
class SimClock:
    """The clock of a host. Its wall clock can be set; the others cannot."""

    kernel: Kernel
    wall_offset_s: float = 0.0
    booted_at: float = -1000.0
    slept_s: float = 0.0
    rate: float = 1.0
    """How fast it goes, and with it every wait of its host."""

    def now(self) -> datetime:
        return EPOCH + timedelta(seconds=round(self.kernel.now + self.wall_offset_s, 6))

    def monotonic(self) -> float:
        return (self.kernel.now - self.slept_s) * self.rate

    def since_boot(self) -> float:
        return (self.kernel.now - self.booted_at) * self.rate


class SimHost(Numbered):
    """A host: it is on or off, and may be frozen as a whole."""

    def __init__(self, kernel: Kernel, name: str, address: str) -> None:
        super().__init__()
        self.kernel = kernel
        self.name = name
        self.address = address
        self.clock = SimClock(kernel)
        self.on = True
        self.frozen = False
        self.frozen_at = 0.0
        self.thawed_at = 0.0
        self.waking = False
        """Just thawed: its watchdog has not looked yet."""
        self.slow: dict[str, float] = {}
        """Seconds that steps of its engine take, where they take any."""
        self.disk = "good"
        """Or `full`, `read-only`, `failing`, `slow`."""
        self.full_at = float("-inf")
        """When its disk was full last."""
        self.promised: dict[Path, bytes | None] = {}
        """Files that were written and are not on the disk for sure, and what was there before."""
        self.starved_s = 0.0
        """How long each turn of its processes is waited for, on average."""
        self.boot = 0
        self.processes: list[Process] = []

    @property
    def boot_id(self) -> str:
        """The id of the present boot, as the kernel of a real host makes it."""
        return f"00000000-0000-4000-8000-{self._number:06d}{self.boot:06d}"

    def mend_disk(self) -> None:
        """Its disk is as it should be."""
        if self.disk == "full":
            self.full_at = self.kernel.now
        self.disk = "good"

    def process(self, name: str) -> Process:
        """A new process of this host."""
        process = Process(self.kernel, f"{self.name}.{name}", self)
        self.processes = [each for each in self.processes if each.alive]
        self.processes.append(process)
        return process

    def cut_power(self) -> None:
        """Everything ends at once."""
        self.on = False
        self.frozen = self.waking = False
        for process in self.processes:
            process.kill()

    def boot_up(self) -> None:
        """A new boot: another boot id, and clocks that begin anew. Processes are for others to start."""
        self.on = True
        self.boot += 1
        self.clock.booted_at = self.kernel.now

    def freeze(self) -> None:
        """Nothing on it goes on, the network keeps what is sent to it."""
        self.frozen, self.frozen_at = True, self.kernel.now

    def thaw(self, *, slept: bool) -> None:
        """All goes on; where the host `slept`, its monotonic clock did not count the time."""
        self.frozen, self.waking, self.thawed_at = False, True, self.kernel.now
        if slept:
            self.clock.slept_s += self.kernel.now - self.frozen_at
        for process in self.processes:
            self.kernel.thaw(process)
