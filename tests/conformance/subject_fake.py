"""The fake driver under test: its world is asked and played with through FakeWorld, the driver's through the protocol."""

from __future__ import annotations

import contextlib
import hashlib
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.conformance.subjects import Limits

from garbi.base.clock import SystemClock
from garbi.hyper.drivers.fake import FakeDriver, FakeMachine, FakeWorld
from garbi.hyper.drivers.fake.machine import key_of
from garbi.hyper.drivers.protocol import Condition, Driver, DriverContext, ImageFile
from garbi.hyper.model.image import ImageType

OTHER_CLUSTER = secrets.token_hex(16)


class FakeEvidence:
    """What the world behind the driver says."""

    _clusters: set[str]

    def kill_outside(self, cluster_id: str, machine_id: str) -> None:
        self._world(cluster_id).kill(machine_id)

    def incarnation(self, cluster_id: str, machine_id: str) -> str:
        return str(self._record(cluster_id, machine_id).power_ons)

    def limits_seen(self, cluster_id: str, machine_id: str) -> Limits:
        record = self._record(cluster_id, machine_id)
        return Limits(record.mem, record.cpus)

    def labels_kept(self, cluster_id: str, machine_id: str) -> Mapping[str, str]:
        return self._record(cluster_id, machine_id).labels

    def leftovers(self, cluster_id: str) -> list[str]:
        return [
            f"machine {found.key}" for found in self._world(cluster_id).machines() if found.cluster_id == cluster_id
        ]

    def keeps_image(self, cluster_id: str, sha256: str) -> bool:
        return False

    def footprint(self, cluster_id: str) -> list[str]:
        return []

    def sweep(self, cluster_id: str) -> None:
        world = self._world(cluster_id)
        for found in world.machines():
            if found.cluster_id == cluster_id:
                world.uproot(found.key)
        self._clusters.discard(cluster_id)

    def _world(self, cluster_id: str) -> FakeWorld:
        return FakeWorld.of(cluster_id)

    def _record(self, cluster_id: str, machine_id: str) -> FakeMachine:
        key = key_of(cluster_id, machine_id)
        return next(found for found in self._world(cluster_id).machines() if found.key == key)


class FakeForeign(FakeEvidence):
    """Machines planted by hand."""

    _foreign: list[tuple[FakeWorld, FakeMachine]]

    def make_foreign(self, cluster_id: str, machine_id: str) -> None:
        key = key_of(cluster_id, machine_id)
        for foreign in (
            FakeMachine(
                f"by-hand-{OTHER_CLUSTER[:8]}-{machine_id}", id=machine_id, condition=Condition.RUNNING, power_ons=1
            ),
            FakeMachine(key + "x", id=machine_id, condition=Condition.RUNNING, power_ons=1),
            FakeMachine(key_of(OTHER_CLUSTER, machine_id), OTHER_CLUSTER, machine_id, condition=Condition.RUNNING),
        ):
            self._plant(cluster_id, foreign)

    def make_impostor(self, cluster_id: str, machine_id: str) -> None:
        self._plant(cluster_id, FakeMachine(key_of(cluster_id, machine_id)))

    def foreign_changes(self) -> list[str]:
        return [f"{planted.key} changed" for world, planted in self._foreign if planted not in world.machines()]

    def remove_foreign(self) -> None:
        for world, planted in self._foreign:
            world.uproot(planted.key)
        self._foreign.clear()

    def _plant(self, cluster_id: str, machine: FakeMachine) -> None:
        world = self._world(cluster_id)
        world.plant(machine)
        self._foreign.append((world, machine))


class FakeSubject(FakeForeign):
    """The fake driver with its machines in this process."""

    name = "fake"
    driver_class = FakeDriver
    outlives_process = False
    serves_page = False
    console_text = b"is ready"
    notice_s = 60.0

    def __init__(self, work_dir: Path) -> None:
        self._work_dir = work_dir
        self._clusters = set()
        self._foreign = []

    def make_driver(self, cluster_id: str, data_dir: Path) -> Driver:
        self._clusters.add(cluster_id)
        return FakeDriver(DriverContext(cluster_id, data_dir, SystemClock()))

    def make_stranded_driver(self, cluster_id: str, data_dir: Path) -> Driver:
        return FakeDriver(DriverContext(cluster_id, data_dir, SystemClock(), {"unavailable": "true"}))

    def image(self) -> ImageFile:
        return self._image("tiny", b"any content will do")

    def corrupt_image(self) -> ImageFile:
        return self._image("corrupt", b"garbi-fake corrupt")

    def close(self) -> None:
        pass

    @contextlib.contextmanager
    def broken_daemon(self) -> Iterator[None]:
        for cluster_id in self._clusters:
            self._world(cluster_id).make_unavailable()
        try:
            yield
        finally:
            for cluster_id in self._clusters:
                self._world(cluster_id).make_available()

    def _image(self, name: str, content: bytes) -> ImageFile:
        path = self._work_dir / name
        path.write_bytes(content)
        return ImageFile(hashlib.sha256(content).hexdigest(), ImageType.RAW, path, len(content))


class PersistentFakeSubject(FakeSubject):
    """The fake driver with its machines in a file: several agents' machines in one, as a real daemon has them."""

    name = "fake-persistent"
    outlives_process = True

    def make_driver(self, cluster_id: str, data_dir: Path) -> Driver:
        self._clusters.add(cluster_id)
        return FakeDriver(DriverContext(cluster_id, self._work_dir, SystemClock(), {"persist": "true"}))

    def _world(self, cluster_id: str) -> FakeWorld:
        return FakeWorld.at(self._work_dir)
