"""An event: who did what to which thing of the cloud, when, and why."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Subject(StrEnum):
    NODE = "node"
    MACHINE = "machine"
    IMAGE = "image"
    OPERATION = "operation"
    AUDIT = "audit"


@dataclass(frozen=True, slots=True)
class Event:
    """`seq` orders events for ever. `actor` is `user`, `controller` or `node:<name>`; `state` is the subject's after it."""

    seq: int
    at: datetime
    subject: Subject
    id: str
    kind: str
    state: str
    actor: str
    reason: str
