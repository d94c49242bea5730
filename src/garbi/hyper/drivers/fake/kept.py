"""The ability to keep what a fake machine was: it is set aside at the pretended daemon, and its id is free again."""

from __future__ import annotations

from collections.abc import Mapping

from garbi.base.clock import Clock
from garbi.base.errors import Conflict
from garbi.base.failpoints import reach
from garbi.hyper.drivers.fake.daemon import FakeDaemon
from garbi.hyper.drivers.fake.machine import MIB, FakeMachine, key_of
from garbi.hyper.drivers.fake.obstacles import Obstacles
from garbi.hyper.drivers.protocol import Condition, KeptDisk


class FakeKeeper:
    """DiskKeeper for fake machines, which have no disk: the record of the machine stands for it."""

    _clock: Clock
    _cluster_id: str
    _daemon: FakeDaemon
    _obstacles: Obstacles

    def keep_disk(self, machine_id: str, name: str) -> KeptDisk | None:
        reach("fake.keep_disk.begin")
        self._obstacles.pass_by("keep_disk", machine_id)
        kept = self._daemon.attic.set_aside(key_of(self._cluster_id, machine_id), self._kept_key(name), self._fit)
        self._daemon.wake()
        reach("fake.keep_disk.kept")
        return None if kept is None or kept.id != machine_id else _described(kept)

    def kept_disks(self) -> Mapping[str, KeptDisk]:
        self._obstacles.check_answers()
        ours = (kept for kept in self._daemon.attic.all() if kept.cluster_id == self._cluster_id)
        return {kept.key.removeprefix(self._kept_key("")): _described(kept) for kept in ours}

    def drop_kept(self, name: str) -> None:
        reach("fake.drop_kept.begin")
        self._obstacles.pass_by("drop_kept")
        self._daemon.attic.drop(self._kept_key(name))
        reach("fake.drop_kept.gone")

    def _kept_key(self, name: str) -> str:
        return f"garbi-kept-{self._cluster_id[:8]}-{name}"

    def _fit(self, machine: FakeMachine) -> bool:
        """Whether there is something to keep of the machine; raises Conflict while it runs."""
        if machine.cluster_id != self._cluster_id or machine.condition is Condition.PARTIAL:
            return False
        if machine.at(self._clock.monotonic()).powered:
            raise Conflict(f"machine {machine.id} runs, its disk cannot be kept")
        return True


def _described(kept: FakeMachine) -> KeptDisk:
    return KeptDisk(place=kept.key, size=MIB)
