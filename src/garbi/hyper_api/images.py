"""Images of a host as they travel."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from garbi.base.bounds import Note, answered
from garbi.hyper_api.machines import EXAMPLE
from garbi.hyper_api.vocabulary import ImageState, ImageType


@dataclass(frozen=True, slots=True)
class Image:
    """Immutable content that machines start from; the name points to a digest."""

    __pydantic_config__ = answered(
        {
            "name": "tiny",
            "type": "qcow2",
            "size": 15728640,
            "virtual_size": 67108864,
            "sha256": EXAMPLE["image_sha256"],
            "state": "active",
            "created_at": EXAMPLE["created_at"],
            "cached": False,
            "used_at": EXAMPLE["created_at"],
        }
    )

    name: str
    type: ImageType
    size: Annotated[int, Note("Bytes of the content.")]
    virtual_size: Annotated[int, Note("Bytes that it unfolds to, for a disk.")]
    sha256: str
    state: ImageState
    created_at: datetime
    cached: Annotated[bool, Note("It can be fetched again: it is given up when its space is needed.")]
    used_at: Annotated[datetime, Note("When a machine was last made from it, or it was added.")]
