"""Kept disks of a host as they travel: what outlives a machine."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from garbi.base.bounds import Note, answered
from garbi.hyper_api.machines import EXAMPLE


@dataclass(frozen=True, slots=True)
class KeptFacts:
    """What is written down of a kept disk."""

    name: str
    machine_id: Annotated[str, Note("The machine whose disk it was.")]
    type: str
    image_sha256: Annotated[
        str,
        Note("The content that it lies on, and cannot be read without: it stays as long. Empty where there is none."),
    ]
    epoch: Annotated[int, Note("Which copy of the machine it was, by its label garbi.epoch.")]
    place: Annotated[str, Note("Where it is: a file of the host, or a stopped container.")]
    size: Annotated[int, Note("Bytes of its own.")]
    kept_at: datetime
    keep_s: Annotated[int, Note("Seconds that it is kept while the agent runs.")]


@dataclass(frozen=True, slots=True)
class KeptDisk(KeptFacts):
    """A disk that outlives its machine; what it holds is read with the daemon's own tools."""

    __pydantic_config__ = answered(
        {
            "name": "web.3",
            "machine_id": "web",
            "type": "libvirt",
            "image_sha256": EXAMPLE["image_sha256"],
            "epoch": 3,
            "place": "/var/lib/garbi/hyper/drivers/libvirt/pool/web.3.kept",
            "size": 4718592,
            "kept_at": EXAMPLE["created_at"],
            "keep_s": 604800,
            "left_s": 518400,
        }
    )

    left_s: Annotated[int, Note("Those that are left.")]
