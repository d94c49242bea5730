"""Content that comes in as the body of a request: block by block, with the digest that it must have."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Annotated, Any

import anyio
from anyio import from_thread
from fastapi import Depends, Header, Query, Request
from starlette.requests import ClientDisconnect

from garbi.base.errors import Busy, DigestMismatch, InvalidField, MalformedRequest
from garbi.web.places import Places

BLOCK = 2**20
STALLED_S = 120
DRAINED = 64 * 2**20
"""How much of a refused upload is read and thrown away, so that the client has sent it all when the refusal arrives."""

_HEX = re.compile(r"[0-9a-f]{64}\Z")
DIGEST_RULE = "64 hexadecimal digits"


def content_body(media: str = "application/octet-stream") -> dict[str, Any]:
    """The body of a request that takes content, for OpenAPI."""
    return {
        "requestBody": {
            "description": "the content, inspected before it can be used",
            "required": True,
            "content": {media: {"schema": {"type": "string", "format": "binary"}}},
        }
    }


async def _digest(
    sha256: Annotated[str | None, Query(description="the digest that the content must have, hexadecimal")] = None,
    content_digest: Annotated[str | None, Header(description="the same, by RFC 9530")] = None,
    repr_digest: Annotated[str | None, Header(description="the same, by RFC 9530")] = None,
) -> str | None:
    return agree_on_digest(sha256, content_digest, repr_digest)


Digest = Annotated[str | None, Depends(_digest)]


def declared_size(request: Request) -> int | None:
    """How long the body says it is, in bytes; None when it does not."""
    declared = request.headers.get("content-length", "")
    return int(declared) if declared.isascii() and declared.isdigit() else None


class BodyReader:
    """The body of a request for code in a thread, which asks the event loop for the next block: nothing piles up.

    A thread that asked an event loop that ends would never be answered, so that nothing is asked once the server ends.
    `kept` says, in the words for the client, what becomes of a body that is cut off.
    """

    def __init__(self, request: Request, places: Places, kept: str = "nothing was kept") -> None:
        self._stream = request.stream()
        self._places = places
        self._kept = kept

    def blocks(self) -> Iterator[bytes]:
        """The body, in blocks of about one MiB.

        Raises MalformedRequest when the client goes away before its end, Busy when the server does.
        """
        while True:
            self._places.check_open()
            try:
                block = from_thread.run(self._next)
            except ClientDisconnect:
                raise MalformedRequest(f"the upload ended before its content did; {self._kept}") from None
            except TimeoutError:
                raise MalformedRequest(f"the upload stood still for {STALLED_S} seconds; {self._kept}") from None
            if not block:
                return
            yield block

    def drain(self, limit: int = DRAINED) -> None:
        """Read on, at most `limit` bytes, and keep nothing."""
        # A stream that was read to its end says so by RuntimeError.
        with suppress(MalformedRequest, Busy, RuntimeError):
            for block in self.blocks():
                limit -= len(block)
                if limit <= 0:
                    return

    async def _next(self) -> bytes:
        chunks, size = [], 0
        with anyio.fail_after(STALLED_S) as limit, self._places.reading(limit):
            async for chunk in self._stream:
                chunks.append(chunk)
                size += len(chunk)
                if size >= BLOCK:
                    break
        self._places.check_open()
        return b"".join(chunks)


def agree_on_digest(query: str | None, content_digest: str | None, repr_digest: str | None) -> str | None:
    """The one sha256 that a request names, in hexadecimal; raises InvalidField, or DigestMismatch when it names two."""
    found: list[str] = []
    if query is not None:
        found.append(_read_hexadecimal(query))
    for field, header in (("Content-Digest", content_digest), ("Repr-Digest", repr_digest)):
        digest = read_digest_header(field, header or "")
        if digest is not None:
            found.append(digest)
    if len(set(found)) > 1:
        raise DigestMismatch("sha256", "the request names two different digests of its content")
    return found[0] if found else None


def read_digest_header(field: str, header: str) -> str | None:
    """The sha-256 of an RFC 9530 header in hexadecimal; None when it has none of that algorithm."""
    for member in header.split(","):
        algorithm, _, value = member.strip().partition("=")
        if algorithm.strip().lower() != "sha-256":
            continue
        value = value.partition(";")[0].strip()
        with suppress(binascii.Error, ValueError):
            raw = base64.b64decode(value.removeprefix(":").removesuffix(":"), validate=True)
            if len(raw) == 32 and value.startswith(":") and value.endswith(":"):
                return raw.hex()
        raise InvalidField(field, f"{field} takes sha-256=:base64 of 32 bytes:", allowed="sha-256=:…:")
    return None


def _read_hexadecimal(text: str) -> str:
    if not _HEX.match(text.lower()):
        raise InvalidField("sha256", f"sha256 takes {DIGEST_RULE}", allowed=DIGEST_RULE)
    return text.lower()
