"""An image: immutable content that machines start from."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class ImageType(StrEnum):
    """The format of an image's content, declared when it is added, checked once, never guessed again."""

    QCOW2 = "qcow2"
    RAW = "raw"
    DOCKER = "docker"
    ROOTFS = "rootfs"


class ImageState(StrEnum):
    QUEUED = "queued"
    UPLOADING = "uploading"
    ACTIVE = "active"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Image:
    """A name and the content it points to. `size` is the content in bytes, `virtual_size` what it unfolds to (a disk)."""

    name: str
    type: ImageType
    size: int
    virtual_size: int
    sha256: str
    state: ImageState
    created_at: datetime
