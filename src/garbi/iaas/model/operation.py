"""An operation: a request that takes time, with its progress and the cause of its failure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any


class OperationState(StrEnum):
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class OperationKind(StrEnum):
    NODE_ADD = "node-add"
    NODE_REMOVE = "node-remove"
    NODE_DRAIN = "node-drain"
    MACHINE_ADD = "machine-add"
    MACHINE_WISH = "machine-wish"
    MACHINE_REMOVE = "machine-remove"


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation as the store keeps it.

    `target` is the name of the node or the id of the machine. `step` is the number of the present step, from 1, of `steps` in
    all; `progress` goes from 0 to 1. `message` says what is being done; `error` is the problem document of a failure.
    """

    id: str
    kind: OperationKind
    target: str
    state: OperationState
    step: int
    steps: int
    progress: float
    message: str
    error: Mapping[str, Any] | None
    created_at: datetime
    updated_at: datetime
    finished_at: datetime | None
