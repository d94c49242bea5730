"""What the conformance suite needs of a driver under test, and the drivers that it is run on.

One object per driver implements `Subject` (and `BreakableDaemon` when its daemon can be taken away). It is made with a
work directory, once per run of the suite; a child process makes it again with the same name and directory and must then
find the same image and speak to the same daemon. It asks the daemon by other means than the driver under test (a tool's
command, the raw library), so that a driver cannot vouch for itself. All take the cluster id beside the machine id, because
another cluster may have a machine of the same id.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Protocol, runtime_checkable

from garbi.hyper.drivers.protocol import Driver, ImageFile

MORE = "GARBI_CONFORMANCE_SUBJECTS"
"""Environment variable: `name=module:Class`, several by commas, of drivers that are not in this repository."""

SUBJECTS: Mapping[str, str] = {
    "fake": "tests.conformance.subject_fake:FakeSubject",
    "fake-persistent": "tests.conformance.subject_fake:PersistentFakeSubject",
    "docker": "tests.conformance.subject_docker:DockerSubject",
    "libvirt-qemu": "tests.conformance.subject_libvirt:LibvirtQemuSubject",
    "libvirt-test": "tests.conformance.subject_libvirt:LibvirtTestSubject",
    **dict(each.split("=", 1) for each in os.environ.get(MORE, "").split(",") if each),
}
"""Where each subject's class is: imported when its tests run, so that a missing library fails those tests alone."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a running machine really gets: MiB of memory, processors."""

    mem: int
    cpus: float


class DriverUnderTest(Protocol):
    """How to make the driver, and what machines can be made from."""

    name: str
    """The name in SUBJECTS."""

    driver_class: type
    """The class of the drivers: whether it has an ability decides, when tests are collected, which ones there are."""

    outlives_process: bool
    """Whether machines stay when the process that made them is killed (test:///default lives in its process)."""

    serves_page: bool
    """Whether a machine of `image()` answers HTTP on its TCP port 80 through ports that the driver itself publishes."""

    console_text: bytes
    """What a machine of `image()` prints on its console soon after start; empty when the daemon keeps no console."""

    notice_s: float
    """A generous bound, in seconds, for what the daemon does by itself: an event, an end, a first console line."""

    def make_driver(self, cluster_id: str, data_dir: Path) -> Driver:
        """A driver; a second one with the same arguments is the agent restarted, and adopts."""

    def make_stranded_driver(self, cluster_id: str, data_dir: Path) -> Driver:
        """A driver whose daemon does not answer (a dead socket)."""

    def image(self) -> ImageFile:
        """A tiny image: its machine runs until asked to end, and ends without error when asked, perhaps repeatedly."""

    def corrupt_image(self) -> ImageFile:
        """An image that claims the type of `image()` and is not of it."""

    def close(self) -> None:
        """Delete what the subject itself made outside of its work directory. Called once, at the end."""


class Evidence(Protocol):
    """What the daemon and the disk say, not asked through the driver; and what befalls a machine from outside."""

    def kill_outside(self, cluster_id: str, machine_id: str) -> None:
        """Kill the process of the running machine behind the driver's back (SIGKILL; the nearest there is in test:///default)."""

    def incarnation(self, cluster_id: str, machine_id: str) -> str:
        """What is the same while the machine runs, and another after each power-on: its pid and start time."""

    def limits_seen(self, cluster_id: str, machine_id: str) -> Limits:
        """What the daemon really enforces on the running machine (its cgroup, the live domain, its guest)."""

    def labels_kept(self, cluster_id: str, machine_id: str) -> Mapping[str, str]:
        """The machine's labels, by the user's keys, that the daemon shows; empty when the driver keeps none there."""

    def leftovers(self, cluster_id: str) -> list[str]:
        """Every thing of a machine that carries the mark of this cluster, at the daemon and on disk, each in words.

        Machines, disks, seeds, logs, sockets: what `remove` must take. Not what belongs to the agent as a whole: the
        network, the storage pool, the daemon's copy of an image, the driver's database.
        """

    def keeps_image(self, cluster_id: str, sha256: str) -> bool:
        """Whether the daemon has its own copy of the image (only asked of drivers that are an ImageKeeper)."""

    def footprint(self, cluster_id: str) -> list[str]:
        """What carries the mark of this cluster and serves all its machines: network, storage pool, copies of images.

        Only asked of drivers that have a HostFootprint.
        """

    def sweep(self, cluster_id: str) -> None:
        """Delete everything that carries the mark of this cluster, network and pool and image copies included."""


class Foreign(Protocol):
    """Machines that are not ours, beside ours."""

    def make_foreign(self, cluster_id: str, machine_id: str) -> None:
        """Make by hand, running where possible, with the files that belong to them:

        a machine without any mark and with a name of its own; one without our mark whose name begins with the name that
        the driver gives to `machine_id` (one more letter); one with the mark of another cluster and the same `machine_id`.
        """

    def make_impostor(self, cluster_id: str, machine_id: str) -> None:
        """Make by hand a stopped machine without our mark, of the very name that the driver would give: `add` fails."""

    def foreign_changes(self) -> list[str]:
        """What differs, in words, from when they were made: state, incarnation, definition, files. Empty: untouched."""

    def remove_foreign(self) -> None:
        """Delete what make_foreign and make_impostor made."""


class Subject(DriverUnderTest, Evidence, Foreign, Protocol):
    """A driver under test, with all that the suite asks of it."""


@runtime_checkable
class BreakableDaemon(Protocol):
    """The daemon of the subject's drivers can be taken away (with tests/conformance/socket_relay.py between them)."""

    def broken_daemon(self) -> AbstractContextManager[None]:
        """Inside, connections of drivers of `make_driver` are cut and refused; afterwards the daemon answers again."""


def subject_class(name: str) -> type[Subject]:
    """The class of the subject of that name; fails when its library is missing."""
    module, _, cls = SUBJECTS[name].partition(":")
    found: type[Subject] = getattr(import_module(module), cls)
    return found


def make_subject(name: str, work_dir: Path) -> Subject:
    """The subject of that name; fails when its library or its daemon is missing."""
    factory: Callable[[Path], Subject] = subject_class(name)
    return factory(work_dir)
