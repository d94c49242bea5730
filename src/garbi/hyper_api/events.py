"""Events of a host as they travel: what happened to its machines, and what its audits found."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated

from garbi.base.bounds import Note
from garbi.hyper_api.vocabulary import State, Wish


class EventKind(StrEnum):
    CREATED = "created"
    WISH = "wish"
    STATE = "state"
    REMOVED = "removed"
    VIOLATION = "violation"
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a machine, or that an audit found; the `data` of a server-sent event, whose `id` is `seq`.

    State, wish and reason are those of the machine after it.
    """

    seq: Annotated[int, Note("Grows by every event of the host.")]
    at: datetime
    machine_id: Annotated[str, Note("For what an audit found: what it is about, which may be no machine.")]
    kind: EventKind
    state: Annotated[State | None, Note("None for what an audit found.")]
    wish: Wish | None
    reason: str
