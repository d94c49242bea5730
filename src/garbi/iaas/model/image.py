"""An image of the cloud: a name, and the content that it points to for ever."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from garbi.hyper_api.vocabulary import ImageState, ImageType


@dataclass(frozen=True, slots=True)
class Image:
    """An image as the store keeps it.

    `size` is the content in bytes, `virtual_size` what it unfolds to; both 0 and `sha256` empty until the content is `active`.
    """

    name: str
    type: ImageType
    size: int
    virtual_size: int
    sha256: str
    state: ImageState
    reason: str
    created_at: datetime


CACHED_PREFIX = "sha256-"
"""How the names begin under which nodes have what the controller sent them."""


def cached_name(sha256: str) -> str:
    """Under which name nodes have the content of that digest."""
    return CACHED_PREFIX + sha256[:40]
