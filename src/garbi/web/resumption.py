"""Uploads that go on where they ended, as headers say (draft-ietf-httpbis-resumable-upload)."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import Depends, Header, Request, Response

from garbi.base.errors import InvalidField, UnsupportedMedia
from garbi.base.resumption import PARTIAL as PARTIAL

KEPT = "what came of it is kept: HEAD says how much, PATCH goes on"
"""What becomes of a piece that is cut off, in words for the client."""

_NUMBER = re.compile(r"[0-9]{1,15}\Z")
_BOOLEAN = {"?0": False, "?1": True}


async def _offset(
    upload_offset: Annotated[str, Header(description="how many bytes of the content come before this piece")],
) -> int:
    if not _NUMBER.match(upload_offset):
        rule = "a whole number of at most 15 digits"
        raise InvalidField("Upload-Offset", f"Upload-Offset takes {rule}", allowed=rule)
    return int(upload_offset)


async def _complete(
    upload_complete: Annotated[str, Header(description="`?1`: the content ends with this piece; `?0`: it does not")],
) -> bool:
    if upload_complete not in _BOOLEAN:
        raise InvalidField("Upload-Complete", "Upload-Complete takes ?0 or ?1", allowed=list(_BOOLEAN))
    return _BOOLEAN[upload_complete]


UploadOffset = Annotated[int, Depends(_offset)]
UploadComplete = Annotated[bool, Depends(_complete)]


def require_partial(request: Request) -> None:
    """Raise UnsupportedMedia unless the body says that it is a piece of content."""
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != PARTIAL:
        raise UnsupportedMedia(f"a piece of content must say so: Content-Type: {PARTIAL}", allowed=PARTIAL)


def describe_progress(response: Response, offset: int, complete: bool) -> None:
    """Say in a response how much of the content is here, and whether that is all."""
    response.headers["Upload-Offset"] = str(offset)
    response.headers["Upload-Complete"] = "?1" if complete else "?0"
