"""What a driver promises: at most ten verbs, every one repeatable, and small abilities that only some have.

A driver never sets a state, chooses a port, a name or an image, and keeps nothing in its own memory that it could not read
again from its daemon. It marks what it makes with the cluster id and the machine id, finds its own things by that mark, and
never touches anything else. Errors of its library become `garbi.base.errors` inside the driver: DriverUnavailable when the
daemon does not answer, NoSpace when the disk is full, DriverFailed otherwise, each with the daemon's own words.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Network
from pathlib import Path
from typing import Protocol, runtime_checkable

from garbi.base.clock import Clock
from garbi.hyper.model.image import ImageType
from garbi.hyper.model.kept import KeptDisk as KeptDisk
from garbi.hyper.model.machine import PublishedPort
from garbi.hyper_api.host import Figures as Figures


class Condition(StrEnum):
    """What a driver sees of a machine at its daemon. A machine that it sees nothing of is not reported at all."""

    PARTIAL = "partial"
    STOPPED = "stopped"
    RUNNING = "running"
    PAUSED = "paused"


@dataclass(frozen=True, slots=True)
class Observation:
    """One look at one machine.

    `failure` is empty unless a STOPPED machine ended with an error: then it is the cause in words ("exited with code 3",
    "killed: out of memory", "the guest crashed"). PARTIAL: some of its things exist, but `add` has not completed.
    `engine_life` is set by drivers whose engine takes its machines along when it ends: another word in each life of it. What
    was on in one life and is off in another ended with the engine. One that is ending answers DriverUnavailable.
    """

    machine_id: str
    condition: Condition
    failure: str = ""
    address: str | None = None
    engine_life: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class ImageFile:
    """The content of an image on this host: an immutable file, its format stored when it was inspected, never probed."""

    sha256: str
    type: ImageType
    path: Path
    virtual_size: int


@dataclass(frozen=True, slots=True)
class MachineDefinition:
    """All that a driver needs to make a machine. `mem` in MiB; `address` and `mac` are set for NetworkAttached drivers."""

    id: str
    name: str
    image: ImageFile
    mem: int
    cpus: int
    ports: tuple[PublishedPort, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    full_copy: bool = False
    address: str | None = None
    mac: str | None = None
    marks: Mapping[str, str] = field(default_factory=dict)
    """Texts of the agent's that `add` writes beside the driver's own marks, for Surveyor to give back. Nothing to a driver."""


@dataclass(frozen=True, slots=True)
class DriverInfo:
    """What a driver says of itself: `reason` tells why it is not available, `version` is its daemon's."""

    name: str
    available: bool
    reason: str = ""
    version: str = ""
    details: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DriverContext:
    """What the agent gives a driver at start.

    `cluster_id` is a random 32-digit hexadecimal id of this agent's data directory: whatever a driver makes carries it.
    `data_dir` is a directory of the driver's own. `settings` are the driver's settings by name, as strings.
    `run_dir` is one in memory, which goes with the boot and need not be there: for what is to be read though the disk hangs.
    """

    cluster_id: str
    data_dir: Path
    clock: Clock
    settings: Mapping[str, str] = field(default_factory=dict)
    run_dir: Path | None = None


Notify = Callable[[str | None], None]
"""Called by a driver when a machine changed (its id), or when any may have changed (None: after a reconnection)."""


class Driver(Protocol):
    """A type of machine. Constructed with a DriverContext; construction does no I/O and never fails."""

    image_types: frozenset[ImageType]
    """The formats of images that this driver makes machines from."""

    def info(self) -> DriverInfo:
        """Say whether the daemon answers, its version, or why it does not. Never raises."""

    def prepare(self, image: ImageFile) -> None:
        """Make the content ready for `add`. Repeatable; raises ImageRejected when the daemon cannot use it."""

    def add(self, machine: MachineDefinition) -> None:
        """Make the machine, not running. Repeatable: completes what an interrupted `add` left; undoes itself when it fails."""

    def start(self, machine_id: str) -> None:
        """Power the machine on, or resume it. Nothing happens when it runs."""

    def stop(self, machine_id: str) -> None:
        """Ask the machine to end (ACPI, SIGTERM) and return at once. Nothing happens when it does not run."""

    def kill(self, machine_id: str) -> None:
        """Power the machine off now. Nothing happens when it does not run."""

    def remove(self, machine_id: str) -> None:
        """Power off and delete all that belongs to the machine. Nothing happens when nothing is left."""

    def observe(self, machine_id: str | None = None) -> list[Observation]:
        """Look at one machine, or at all of ours in a bounded number of calls; raises DriverUnavailable."""

    def watch(self, notify: Notify) -> None:
        """Start reporting changes, from the daemon's own events, in threads of the driver's; reconnects by itself."""

    def close(self) -> None:
        """Stop watching and let go of the daemon. Machines keep running."""


# Abilities: what only some drivers can do, found by isinstance, never by a table kept by hand.


@runtime_checkable
class Pausable(Protocol):
    """Machines can be frozen in memory; `start` resumes them."""

    def pause(self, machine_id: str) -> None:
        """Freeze the running machine. Nothing happens when it is paused."""


@runtime_checkable
class MissesStops(Protocol):
    """A machine that is still booting does not hear that it is asked to end, so it is asked again."""

    repeat_stop_s: float
    """Seconds between two requests."""


@runtime_checkable
class ProcessFinder(Protocol):
    """Machines are processes of this host, which are found without the daemon: they can be ended while it does not answer."""

    def processes_of(self, machine_id: str) -> list[int]:
        """What runs of the machine, paused or not; none when it is off. Raises DriverUnavailable when that cannot be known."""


class Identity(StrEnum):
    """How certain it is that what bears the labels of a machine is that machine."""

    MADE = "made"
    """An agent made it as that machine: its name and labels say so, its own id at the engine, or an id that follows from both."""

    COPY = "copy"
    """It has the labels from an image that was made of the machine, or of its definition: they count for nothing."""

    UNSURE = "unsure"
    """Its labels alone say so: it may be the machine under another name, or somebody's own."""


@dataclass(frozen=True, slots=True)
class MarkedMachine:
    """What an engine has with the marks of Garbi on it, whichever agent made it. `place` is its name at the engine, for people.

    `marks` and `labels` are those of the definition by which it was made; `marks` are empty on machines of earlier versions.
    """

    cluster_id: str
    machine_id: str
    place: str
    condition: Condition
    marks: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    identity: Identity = Identity.MADE


@runtime_checkable
class Surveyor(Protocol):
    """The engine can be searched for machines of any agent. To act on one takes a driver with the cluster id of its agent."""

    def survey(self) -> list[MarkedMachine]:
        """All that the engine has; raises DriverUnavailable when it does not answer."""

    def survey_processes(self) -> list[MarkedMachine]:
        """What of it runs on this host, found without the engine: nothing where the engine is not installed or rests.

        Raises DriverUnavailable when that cannot be known: it is on another host, or nothing says whose a process is.
        """


@runtime_checkable
class ConsoleLog(Protocol):
    """Machines have a console whose output is kept."""

    def console_log(self, machine_id: str, limit: int) -> bytes:
        """The last `limit` bytes of the console's output."""


@runtime_checkable
class LiveFigures(Protocol):
    """Running machines can be measured."""

    def figures(self, machine_id: str) -> Figures:
        """Measure the running machine now."""


@runtime_checkable
class ImageKeeper(Protocol):
    """The daemon keeps its own copy of an image's content, which must go when the image goes."""

    def drop_image(self, sha256: str) -> None:
        """Delete the daemon's copy. Nothing happens when there is none."""


@runtime_checkable
class DiskKeeper(Protocol):
    """The disk of a machine can outlive it, under a name of its own, while the machine's id is free for another."""

    def keep_disk(self, machine_id: str, name: str) -> KeptDisk | None:
        """Set the disk of the machine aside as `name`; the machine is then only fit for `remove`, which leaves the kept disk.

        Repeatable, also once the machine is gone: what is kept as `name` is returned. None when there is nothing to keep: the
        machine was never made, or is gone without it. Raises Conflict while the machine runs, or when `name` is another's disk;
        NoSpace. A disk that could not be kept is the machine's as before.
        """

    def kept_disks(self) -> Mapping[str, KeptDisk]:
        """What is kept, by name; raises DriverUnavailable."""

    def drop_kept(self, name: str) -> None:
        """Delete what is kept as `name`. Nothing happens when there is nothing."""


@runtime_checkable
class HostFootprint(Protocol):
    """The driver made things on the host for all machines together: a network, a storage pool, copies of images."""

    def withdraw(self) -> None:
        """Delete all of them that carry the mark of this cluster. Repeatable; no machine is left when it is called."""


@runtime_checkable
class AnyImage(Protocol):
    """Machines can be made from a name alone: no image of that name has to be on the host."""

    takes_any_image: bool


@runtime_checkable
class RegistryPuller(Protocol):
    """The daemon can fetch images from registries by itself."""

    def pull(self, reference: str) -> str:
        """Fetch the image that `reference` names; return the `sha256` (hexadecimal) of its content, to be pinned."""


@dataclass(frozen=True, slots=True)
class GuestNetwork:
    """A host network where machines have addresses: the bridge, its IPv4 subnet, the bridge's own address in it."""

    bridge: str
    subnet: IPv4Network
    gateway: str


@runtime_checkable
class NetworkAttached(Protocol):
    """Machines get an address on a host network; the agent chooses address and MAC, and leads published ports there.

    Drivers without this publish ports by themselves, in `add` and `start`.
    """

    def guest_network(self) -> GuestNetwork:
        """The network, made if it is not there yet; raises DriverUnavailable."""
