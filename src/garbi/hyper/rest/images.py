"""/hyper/images: the images that this host has, and how their content comes in."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Annotated

import anyio
from anyio import from_thread
from fastapi import APIRouter, Depends, Header, Query, Request, Response
from starlette.requests import ClientDisconnect

from garbi.base.clock import to_wire
from garbi.base.errors import (
    AlreadyExists,
    Busy,
    ContentTooLarge,
    DigestMismatch,
    GarbiError,
    ImageInUse,
    ImageRejected,
    InvalidField,
    MalformedRequest,
    NoSpace,
    NotFound,
    UnknownFilter,
)
from garbi.base.names import check_image_name
from garbi.hyper.model.image import Image, ImageType
from garbi.hyper.model.query import IMAGE_FILTERS
from garbi.hyper.rest.state import AgentOf, Server, ServerState
from garbi.hyper_api import schemas
from garbi.web.listing import link_next, parameters, read_list, select, takes
from garbi.web.problems import documented

BLOCK = 2**20
STALLED_S = 120
DRAINED = 64 * 2**20
"""How much of a refused upload is read and thrown away, so that the client has sent it all when the refusal arrives."""

_HEX = re.compile(r"[0-9a-f]{64}\Z")
DIGEST_RULE = "64 hexadecimal digits"

router = APIRouter(tags=["images"])


async def _digest(
    sha256: Annotated[str | None, Query(description="the digest that the content must have, hexadecimal")] = None,
    content_digest: Annotated[str | None, Header(description="the same, by RFC 9530")] = None,
    repr_digest: Annotated[str | None, Header(description="the same, by RFC 9530")] = None,
) -> str | None:
    return agree_on_digest(sha256, content_digest, repr_digest)


Digest = Annotated[str | None, Depends(_digest)]


@router.get("/hyper/images", responses=documented(UnknownFilter, InvalidField), openapi_extra=parameters(IMAGE_FILTERS))
def list_images(request: Request, response: Response, agent: AgentOf) -> list[schemas.Image]:
    """List the images of this host, by name."""
    asked = read_list(request, IMAGE_FILTERS)
    found = select([describe(image) for image in agent.images.list()], asked, "name")
    link_next(request, response, asked, found, "name")
    return found


@router.get("/hyper/images/{name}", dependencies=[Depends(takes())], responses=documented(UnknownFilter, NotFound))
def show_image(name: str, agent: AgentOf) -> schemas.Image:
    """Show one image."""
    return describe(agent.images.get(name))


@router.put(
    "/hyper/images/{name}",
    status_code=201,
    dependencies=[Depends(takes("type", "sha256"))],
    responses={
        200: {"description": "It was here already, with the same content", "model": schemas.Image},
        **documented(
            MalformedRequest, UnknownFilter, AlreadyExists, ContentTooLarge, InvalidField, ImageRejected, DigestMismatch,
            NoSpace, Busy,
        ),
    },
    openapi_extra={
        "requestBody": {
            "description": "the content, inspected before it can be used",
            "required": True,
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)  # fmt: skip
def add_image(
    name: str,
    request: Request,
    response: Response,
    server: Server,
    digest: Digest,
    type: Annotated[schemas.ImageFormat, Query(description="the format of the content, which must be it")],
) -> schemas.Image:
    """Add an image from the body, which streams to the disk; the same content under the same name changes nothing."""
    check_image_name("name", name)
    declared = request.headers.get("content-length", "")
    size = int(declared) if declared.isascii() and declared.isdigit() else None
    body = _BodyReader(request, server)
    present = {image.name: image for image in server.agent.images.list()}.get(name)
    with server.uploading():
        try:
            image = server.agent.images.add(name, ImageType(type), body.blocks(), digest, size)
        except GarbiError:
            body.drain(DRAINED)
            raise
    response.headers["Location"] = f"/hyper/images/{image.name}"
    response.status_code = 200 if image == present else 201
    return describe(image)


@router.delete(
    "/hyper/images/{name}",
    status_code=204,
    response_class=Response,
    dependencies=[Depends(takes())],
    responses=documented(UnknownFilter, NotFound, ImageInUse),
)
def remove_image(name: str, agent: AgentOf) -> Response:
    """Remove an image that no machine was made from."""
    agent.images.remove(name)
    return Response(status_code=204)


class _BodyReader:
    """The body of a request for code in a thread, which asks the event loop for the next block: nothing piles up.

    A thread that asked an event loop that ends would never be answered, so that nothing is asked once the server ends.
    """

    def __init__(self, request: Request, server: ServerState) -> None:
        self._stream = request.stream()
        self._server = server

    def blocks(self) -> Iterator[bytes]:
        """The body, in blocks of about one MiB.

        Raises MalformedRequest when the client goes away before its end, Busy when the server does.
        """
        while True:
            self._server.check_open()
            try:
                block = from_thread.run(self._next)
            except ClientDisconnect:
                raise MalformedRequest("the upload ended before its content did; nothing was kept") from None
            except TimeoutError:
                raise MalformedRequest(f"the upload stood still for {STALLED_S} seconds; nothing was kept") from None
            if not block:
                return
            yield block

    def drain(self, limit: int) -> None:
        """Read on, at most `limit` bytes, and keep nothing."""
        with suppress(
            MalformedRequest, Busy, RuntimeError
        ):  # a stream that was read to its end says so by RuntimeError
            for block in self.blocks():
                limit -= len(block)
                if limit <= 0:
                    return

    async def _next(self) -> bytes:
        block = bytearray()
        with anyio.fail_after(STALLED_S) as limit, self._server.reading(limit):
            async for chunk in self._stream:
                block += chunk
                if len(block) >= BLOCK:
                    break
        self._server.check_open()
        return bytes(block)


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


def describe(image: Image) -> schemas.Image:
    """An image as it travels."""
    return schemas.Image(
        name=image.name,
        type=image.type.value,
        size=image.size,
        virtual_size=image.virtual_size,
        sha256=image.sha256,
        state=image.state.value,
        created_at=to_wire(image.created_at),
    )
