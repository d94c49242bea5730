"""Events of the cloud as they travel: who did what to which thing, when, and why."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated

from garbi.base.bounds import Note


class Subject(StrEnum):
    NODE = "node"
    MACHINE = "machine"
    IMAGE = "image"
    OPERATION = "operation"
    AUDIT = "audit"


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened in the cloud; the `data` of a server-sent event, whose `id` is `seq`."""

    seq: Annotated[int, Note("Orders events for ever.")]
    at: datetime
    subject: Subject
    id: str
    kind: str
    state: Annotated[str, Note("That of the subject after it.")]
    actor: Annotated[str, Note("`user`, `controller` or `node:` and its name.")]
    reason: str
