"""/hyper/images: the images that this host has, and how their content comes in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request, Response

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
    OffsetMismatch,
    ShareUnavailable,
    UnknownFilter,
    UnsupportedMedia,
)
from garbi.base.names import check_image_name
from garbi.content.blobs import check_sha256
from garbi.hyper.images.library import Part
from garbi.hyper.model.image import Image, ImageType
from garbi.hyper.model.query import IMAGE_FILTERS
from garbi.hyper.rest.state import AgentOf, Server
from garbi.web.answers import respond, respond_list
from garbi.web.content import BodyReader, Digest, content_body, declared_size
from garbi.web.listing import link_next, parameters, read_list, select, takes
from garbi.web.problems import documented
from garbi.web.resumption import KEPT, PARTIAL, UploadComplete, UploadOffset, describe_progress, require_partial

SENT = (
    MalformedRequest, UnknownFilter, AlreadyExists, ContentTooLarge, InvalidField, ImageRejected, DigestMismatch, NoSpace,
    Busy,
)  # fmt: skip
HERE: dict[int | str, dict[str, Any]] = {
    200: {"description": "It was here already, with the same content", "model": Image}
}

router = APIRouter(tags=["images"])


@dataclass(frozen=True, slots=True)
class Upload:
    """What a request says of the content that it brings."""

    type: ImageType
    sha256: str | None
    cached: bool


async def _upload(
    digest: Digest,
    type: Annotated[ImageType, Query(description="the format of the content, which must be it")],
    cached: Annotated[bool, Query(description="it can be fetched again: give it up when space is needed")] = False,
) -> Upload:
    return Upload(type, digest, cached)


UploadOf = Annotated[Upload, Depends(_upload)]


@router.get(
    "/hyper/images",
    response_model=list[Image],
    responses=documented(UnknownFilter, InvalidField),
    openapi_extra=parameters(IMAGE_FILTERS),
)
def list_images(request: Request, response: Response, agent: AgentOf) -> Response:
    """List the images of this host, by name."""
    asked = read_list(request, IMAGE_FILTERS)
    found = select(agent.images.list(), asked, "name")
    link_next(request, response, asked, found, "name")
    return respond_list(Image, found, response)


@router.get(
    "/hyper/images/{name}",
    response_model=Image,
    dependencies=[Depends(takes())],
    responses=documented(UnknownFilter, NotFound),
)
def show_image(name: str, agent: AgentOf) -> Response:
    """Show one image."""
    return respond(Image, agent.images.get(name))


@router.head(
    "/hyper/images/{name}",
    status_code=204,
    response_class=Response,
    dependencies=[Depends(takes("type", "sha256", "cached"))],
    responses=documented(UnknownFilter, InvalidField),
)
def show_progress(
    name: str, agent: AgentOf, sha256: Annotated[str, Query(description="the digest of the content, hexadecimal")]
) -> Response:
    """How much of that content is here, in `Upload-Offset`, and in `Upload-Complete` whether that is all."""
    answer = Response(status_code=204)
    describe_progress(answer, *agent.images.offset(name, sha256))
    return answer


@router.put(
    "/hyper/images/{name}",
    status_code=201,
    response_model=Image,
    dependencies=[Depends(takes("type", "sha256", "cached", "from", "size"))],
    responses={**HERE, **documented(*SENT, ShareUnavailable)},
    openapi_extra=content_body(),
)
def add_image(
    name: str,
    request: Request,
    response: Response,
    server: Server,
    upload: UploadOf,
    source: Annotated[
        Literal["share"] | None, Query(alias="from", description="take it from the image share, not from the body")
    ] = None,
    size: Annotated[int | None, Query(ge=1, description="bytes of the content on the share")] = None,
) -> Response:
    """Add an image from the body, which streams to the disk; the same content under the same name changes nothing.

    With `from=share` the body is empty: the host takes the content of that `sha256` and `size` from its image share.
    """
    check_image_name("name", name)
    images = server.agent.images
    body = BodyReader(request, server)
    present = _present(server, name)
    with server.uploading():
        try:
            if source is not None:
                image = images.take(name, upload.type, *_known(upload, size))
            else:
                sent = declared_size(request)
                image = images.add(name, upload.type, body.blocks(), upload.sha256, sent, upload.cached)
        except GarbiError:
            body.drain()
            raise
    return _added(image, present, response)


@router.patch(
    "/hyper/images/{name}",
    status_code=201,
    response_model=Image,
    dependencies=[Depends(takes("type", "sha256", "cached"))],
    responses={
        **HERE,
        204: {"description": "It is kept, and more is to come; `Upload-Offset` says how much is here"},
        **documented(*SENT, OffsetMismatch, UnsupportedMedia),
    },
    openapi_extra=content_body(PARTIAL),
)
def send_more(
    name: str,
    request: Request,
    response: Response,
    server: Server,
    upload: UploadOf,
    offset: UploadOffset,
    complete: UploadComplete,
) -> Response:
    """Go on sending content at `Upload-Offset`, which is where it ended; the last piece is complete. It needs a `sha256`."""
    check_image_name("name", name)
    require_partial(request)
    sha256 = check_sha256(upload.sha256 or "")
    body = BodyReader(request, server, KEPT)
    present = _present(server, name)
    length = declared_size(request)
    part = Part(offset, body.blocks(), complete, offset + length if complete and length is not None else None)
    with server.uploading():
        try:
            image = server.agent.images.append(name, upload.type, sha256, part, upload.cached)
        except GarbiError:
            body.drain()
            raise
    if image is None:
        answer = Response(status_code=204)
        describe_progress(answer, *server.agent.images.offset(name, sha256))
        return answer
    body.drain()
    describe_progress(response, image.size, True)
    return _added(image, present, response)


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


def _known(upload: Upload, size: int | None) -> tuple[str, int]:
    """The digest and the size without which nothing is taken from a share."""
    if size is None:
        raise InvalidField("size", "size is missing: what is taken from a share must have a known size")
    return check_sha256(upload.sha256 or ""), size


def _present(server: Server, name: str) -> Image | None:
    return {image.name: image for image in server.agent.images.list()}.get(name)


def _added(image: Image, present: Image | None, response: Response) -> Response:
    response.headers["Location"] = f"/hyper/images/{image.name}"
    return respond(Image, image, response, 200 if image == present else 201)
