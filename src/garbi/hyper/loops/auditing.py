"""What the regular audit of a host writes down: an event when a violation appears, and one when it is gone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import astuple

from garbi.base.audit import Auditing, Look, Violation, changes
from garbi.base.clock import Clock
from garbi.base.failpoints import reach
from garbi.hyper.model.event import EventKind
from garbi.hyper.store import events, meta
from garbi.hyper.store.database import Database


def regular(look: Look, database: Database, clock: Clock, period_s: float) -> Auditing:
    """The thread that looks every `period_s` seconds, and writes down what has changed."""
    return Auditing(look, AuditRecord(database, clock).write, clock.monotonic, period_s)


class AuditRecord:
    """The violations that were there at the last audit, this agent's or an earlier one's."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def write(self, found: Sequence[Violation]) -> None:
        """Write down what has changed since the last time; nothing is written when nothing has."""
        with self._database.read() as connection:
            appeared, gone = changes(_read(meta.get(connection, meta.VIOLATIONS)), found)
        if not appeared and not gone:
            return
        now = self._clock.now()
        with self._database.write() as transaction:
            for kind, violations in ((EventKind.VIOLATION, appeared), (EventKind.RESOLVED, gone)):
                for each in violations:
                    events.append_found(transaction, kind, each.subject, f"{each.invariant}: {each.detail}", now)
            meta.put(transaction, meta.VIOLATIONS, json.dumps([astuple(each) for each in found]))
        reach("audit.recorded")


def _read(text: str | None) -> list[Violation]:
    return [Violation(*each) for each in json.loads(text or "[]")]
