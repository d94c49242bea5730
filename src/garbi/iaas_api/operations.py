"""Operations of the cloud as they travel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from garbi.base.bounds import Note, answered
from garbi.hyper_api.machines import EXAMPLE
from garbi.iaas_api.machines import OPERATION


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
    """A request that takes time: how far it is, and why it failed."""

    __pydantic_config__ = answered(
        {
            "id": OPERATION,
            "kind": "node-add",
            "target": "n1",
            "state": "failed",
            "step": 3,
            "steps": 12,
            "progress": 0.25,
            "message": "install packages",
            "error": {
                "type": "urn:garbi:error:provisioning-failed",
                "title": "Provisioning failed",
                "status": 502,
                "detail": "no space left on device",
                "code": "provisioning-failed",
            },
            "created_at": EXAMPLE["created_at"],
            "updated_at": EXAMPLE["updated_at"],
            "finished_at": EXAMPLE["updated_at"],
        }
    )

    id: str
    kind: OperationKind
    target: Annotated[str, Note("The name of the node, or the id of the machine.")]
    state: OperationState
    step: Annotated[int, Note("The present one, from 1.")]
    steps: int
    progress: Annotated[float, Note("0 to 1.")]
    message: Annotated[str, Note("What is being done.")]
    error: Annotated[Mapping[str, Any] | None, Note("Problem details of a failure (RFC 9457).")]
    created_at: datetime
    updated_at: datetime
    finished_at: datetime | None
