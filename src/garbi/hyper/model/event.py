"""Something that happened to a machine, or that an audit found, in the order in which it was written."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from garbi.hyper.model.machine import State, Wish


class EventKind(StrEnum):
    CREATED = "created"
    WISH = "wish"
    STATE = "state"
    REMOVED = "removed"
    VIOLATION = "violation"
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True)
class Event:
    """`seq` grows by every event of this host; `state`, `wish` and `reason` are the machine's after it.

    What an audit found has neither: `machine_id` is what it is about, which may be no machine.
    """

    seq: int
    at: datetime
    machine_id: str
    kind: EventKind
    state: State | None
    wish: Wish | None
    reason: str
