"""Something that happened to a machine, in the order in which it was written."""

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


@dataclass(frozen=True, slots=True)
class Event:
    """`seq` grows by every event of this host; `state`, `wish` and `reason` are the machine's after it."""

    seq: int
    at: datetime
    machine_id: str
    kind: EventKind
    state: State
    wish: Wish
    reason: str
