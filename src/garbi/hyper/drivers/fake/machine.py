"""A pretended machine as its daemon keeps it, and what power does to it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from garbi.hyper.drivers.protocol import Condition, Figures, MachineDefinition, MarkedMachine, Observation

CONSOLE_LIMIT = 16 * 1024
MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class FakeMachine:
    """One record. `key` is its name at the daemon; `cluster_id` marks the agent that made it: empty when made by hand.

    `power_ons` tells one run of the machine from the next. Times are the clock's monotonic seconds.
    """

    key: str
    cluster_id: str = ""
    id: str = ""
    name: str = ""
    image_sha256: str = ""
    mem: int = 0
    cpus: int = 0
    ports: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    marks: Mapping[str, str] = field(default_factory=dict)
    condition: Condition = Condition.STOPPED
    failure: str = ""
    power_ons: int = 0
    ran_s: float = 0.0
    running_since: float | None = None
    ends_at: float | None = None
    console: str = ""

    @property
    def powered(self) -> bool:
        """Whether it runs or is paused."""
        return self.condition in (Condition.RUNNING, Condition.PAUSED)

    def started(self, now: float) -> FakeMachine:
        """Powered on, or resumed."""
        if self.condition is Condition.PAUSED:
            return replace(self, condition=Condition.RUNNING, running_since=now)._print("resumed")
        fresh = replace(self, condition=Condition.RUNNING, failure="", ran_s=0.0, running_since=now, ends_at=None)
        return replace(fresh, power_ons=self.power_ons + 1)._print(f"{self.name} is ready")

    def paused(self, now: float) -> FakeMachine:
        """Frozen in memory."""
        return replace(self, condition=Condition.PAUSED, ran_s=self.uptime_s(now), running_since=None)._print("paused")

    def ended(self, failure: str = "") -> FakeMachine:
        """Powered off; `failure` says why when it was not in order."""
        off = replace(self, condition=Condition.STOPPED, failure=failure, running_since=None, ends_at=None)
        return off._print(failure or "powered off")

    def at(self, now: float) -> FakeMachine:
        """The machine at that time: ended, when it was asked to and has had its time."""
        return self.ended() if self.ends_at is not None and self.ends_at <= now else self

    def uptime_s(self, now: float) -> float:
        """Seconds that it has run since it was powered on, without those when it was paused."""
        return self.ran_s + (now - self.running_since if self.running_since is not None else 0.0)

    def figures(self, now: float) -> Figures:
        """Figures of an idle machine: they only grow, and follow from the uptime alone."""
        uptime = self.uptime_s(now)
        return Figures(
            cpu_seconds=uptime * 0.02 * self.cpus,
            memory_bytes=self.mem * MIB // 4,
            disk_read_bytes=8 * MIB,
            disk_written_bytes=int(uptime * 4096),
            network_received_bytes=int(uptime * 512),
            network_sent_bytes=int(uptime * 256),
        )

    def observation(self) -> Observation:
        """What a look at it says."""
        return Observation(self.id, self.condition, self.failure if self.condition is Condition.STOPPED else "")

    def marked(self) -> MarkedMachine:
        """What a look at all machines of Garbi says of it."""
        return MarkedMachine(self.cluster_id, self.id, self.key, self.condition, self.marks, self.labels)

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> FakeMachine:
        values: dict[str, Any] = json.loads(text)
        return cls(**values | {"ports": tuple(values["ports"]), "condition": Condition(values["condition"])})

    def _print(self, line: str) -> FakeMachine:
        return replace(self, console=(self.console + line + "\n")[-CONSOLE_LIMIT:])


def key_of(cluster_id: str, machine_id: str) -> str:
    """The name at the daemon of a machine of ours."""
    return f"garbi-{cluster_id[:8]}-{machine_id}"


def half_made(cluster_id: str, wanted: MachineDefinition) -> FakeMachine:
    """The machine that `add` has begun to make."""
    return FakeMachine(
        key=key_of(cluster_id, wanted.id),
        cluster_id=cluster_id,
        id=wanted.id,
        name=wanted.name,
        image_sha256=wanted.image.sha256,
        mem=wanted.mem,
        cpus=wanted.cpus,
        ports=tuple(str(port) for port in wanted.ports),
        labels=dict(wanted.labels),
        marks=dict(wanted.marks),
        condition=Condition.PARTIAL,
    )
