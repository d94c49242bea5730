"""An image: immutable content that machines start from."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from garbi.hyper_api.vocabulary import ImageState as ImageState
from garbi.hyper_api.vocabulary import ImageType as ImageType


@dataclass(frozen=True, slots=True)
class Image:
    """A name and the content it points to. `size` is the content in bytes, `virtual_size` what it unfolds to (a disk).

    `cached` content can be fetched again: it is given up, the least recently used first, when another needs its space.
    """

    name: str
    type: ImageType
    size: int
    virtual_size: int
    sha256: str
    state: ImageState
    created_at: datetime
    cached: bool
    used_at: datetime
