"""What really happened to each machine, whatever anybody believes: its steps that were refused, how often it ended and how."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from tests.simulation.hosts import SimHost
from tests.simulation.kernel import Kernel

from garbi.hyper.drivers.fake.daemon import FakeDaemon
from garbi.hyper.drivers.fake.faults import Fault

_take_fault = FakeDaemon.take_fault


class Blow(StrEnum):
    """What may happen to a machine."""

    ENDED = "ended in order"
    KILLED = "killed"
    LOST_POWER = "lost power"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Touch:
    """Something that happened to a machine on a host; `verb` is the step that was refused, `for_good` that it always will be."""

    at: float
    host: str
    blow: Blow
    verb: str = ""
    for_good: bool = False


@dataclass
class History:
    """Of all machines of a run. Steps that concern no machine (the image is prepared) are those of every machine of the host."""

    kernel: Kernel
    hosts: dict[FakeDaemon, SimHost]
    touches: dict[str, list[Touch]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        history = self

        def take_fault(daemon: FakeDaemon, verb: str, machine_id: str | None) -> Fault | None:
            fault = _take_fault(daemon, verb, machine_id)
            if fault is not None:
                history.refuse(daemon, fault, verb, machine_id)
            return fault

        FakeDaemon.take_fault = take_fault  # type: ignore[method-assign]

    def refuse(self, daemon: FakeDaemon, fault: Fault, verb: str, machine_id: str | None) -> None:
        """A step was refused."""
        host = self.hosts[daemon]
        self.kernel.note(f"{host.name} refuses to {verb} {(machine_id or 'anything')[:8]}")
        for_good = fault.times is None and fault.machine_id is not None
        self.note(machine_id or "", host.name, Blow.REFUSED, verb, for_good=for_good)

    def note(self, machine_id: str, host: str, blow: Blow, verb: str = "", *, for_good: bool = False) -> None:
        """Write down what happened to a machine."""
        self.touches.setdefault(machine_id, []).append(Touch(self.kernel.now, host, blow, verb, for_good))

    def of(self, machine_id: str, since: float) -> list[Touch]:
        """What happened to a machine since then."""
        there = [*self.touches.get(machine_id, ()), *self.touches.get("", ())]
        return [each for each in there if each.at >= since]
