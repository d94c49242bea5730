"""Images of the cloud as they travel."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from garbi.base.bounds import Note, answered, asked
from garbi.hyper_api.machines import EXAMPLE, ImageName
from garbi.hyper_api.vocabulary import ImageState, ImageType


@dataclass(frozen=True, slots=True)
class ImageSpec:
    """An image to fill: its content follows by `PUT /iaas/images/{name}/file`."""

    __pydantic_config__ = asked({"name": "tiny", "type": "qcow2"})

    name: ImageName
    type: ImageType


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
            "reason": "",
            "created_at": EXAMPLE["created_at"],
        }
    )

    name: str
    type: ImageType
    size: Annotated[int, Note("Bytes of the content; 0 until it is active.")]
    virtual_size: Annotated[int, Note("Bytes that it unfolds to, for a disk; 0 until it is active.")]
    sha256: Annotated[str, Note("Empty until it is active.")]
    state: ImageState
    reason: Annotated[str, Note("Why it failed.")]
    created_at: datetime
