"""Ends what runs under a controller's lease on a host: first what the database tells of, then what engines have beside that."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from garbi.base.failpoints import reach
from garbi.hyper.watchdog.engines import Engines
from garbi.hyper.watchdog.leased import Leased, MarkJudge, judge_records
from garbi.hyper.watchdog.records import RecordReader, Records
from garbi.hyper.watchdog.stopping import Stopped, Stopping


@dataclass(frozen=True, slots=True)
class Ended:
    """What became of the machines of one controller.

    `stopped` ran and do not any more, `left` were not touched. `running` says why some may still run, `unknown` why some can be
    neither ended nor ruled out, `unseen` why engines cannot be looked through. `earlier` are those that certainly do not run of
    agents that had this data directory before, by their cluster ids; `cluster_id` is that of the present one, empty if unknown.
    """

    cluster_id: str
    stopped: frozenset[str] = frozenset()
    left: frozenset[str] = frozenset()
    running: Mapping[str, str] = field(default_factory=dict)
    unknown: Mapping[str, str] = field(default_factory=dict)
    unseen: Mapping[str, str] = field(default_factory=dict)
    earlier: Mapping[str, frozenset[str]] = field(default_factory=dict)

    @property
    def clean(self) -> bool:
        """Whether nothing had to be ended, and everything could be looked at."""
        return not self.stopped and not self.running and not self.unseen

    @property
    def proven(self) -> bool:
        """Whether it is certain that nothing runs that was to end."""
        return not self.running and not self.unknown and not self.unseen


class Ending:
    """Ends machines of a data directory. `judge` makes who judges marks, anew for each look."""

    def __init__(
        self, records: RecordReader, engines: Engines, stopping: Stopping, judge: Callable[[], MarkJudge]
    ) -> None:
        self._records = records
        self._engines = engines
        self._stopping = stopping
        self._judge = judge

    def end(self, controller: str, number: int) -> Ended:
        """End the machines of a controller as its leases up to `number` end, as far as that can be done now."""
        ours = judge_records(self._records.read(), controller, number)
        first = self._stopping.stop(ours.ending)
        reach("ending.of-records")
        # Records are read anew then: what was made meanwhile has a row before it is made, and is not taken for one without.
        records, marked, unseen = self._look(controller, number)
        done = self._stopping.stop(marked.ending)
        return _summary(records, ours, marked, (first, done), unseen)

    def obstacles(self, controller: str) -> Mapping[str, str]:
        """Why it would not be certain now that all machines of a controller have ended: machines that nothing tells of, engines
        that cannot be looked through."""
        _, marked, unseen = self._look(controller, 0)
        return {**unseen, **marked.unknown}

    def has_any(self, controller: str, number: int) -> bool:
        """Whether engines have, or may have, anything of this data directory and that controller."""
        _, marked, unseen = self._look(controller, number)
        return bool(marked.ending or marked.left or marked.unknown or unseen)

    def _look(self, controller: str, number: int) -> tuple[Records, Leased, Mapping[str, str]]:
        lost = not self._records.read().cluster_id
        found = self._engines.look(lost)
        records = self._records.read()
        return records, self._judge().judge(found, records, controller, number), found.unseen


def _summary(
    records: Records, ours: Leased, marked: Leased, done: tuple[Stopped, Stopped], unseen: Mapping[str, str]
) -> Ended:
    running = {name: why for each in done for name, why in each.running.items()}
    earlier: dict[str, set[str]] = {}
    for target in (*ours.ending, *marked.ending):
        if target.cluster_id != records.cluster_id and target.id not in running:
            earlier.setdefault(target.cluster_id, set()).add(target.id)
    return Ended(
        records.cluster_id,
        frozenset(name for each in done for name in each.stopped if name not in running),
        ours.left | marked.left,
        running,
        marked.unknown,
        unseen,
        {cluster_id: frozenset(ids) for cluster_id, ids in earlier.items()},
    )
