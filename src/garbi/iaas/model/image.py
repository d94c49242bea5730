"""An image of the cloud: a name, and the content that it points to for ever."""

from __future__ import annotations

from garbi.iaas_api.images import Image as Image

CACHED_PREFIX = "sha256-"
"""How the names begin under which nodes have what the controller sent them."""


def cached_name(sha256: str) -> str:
    """Under which name nodes have the content of that digest."""
    return CACHED_PREFIX + sha256[:40]
