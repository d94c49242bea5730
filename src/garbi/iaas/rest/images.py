"""/iaas/images: the images of the cloud, and how their content comes in: at once, or piece by piece.

Pieces follow draft-ietf-httpbis-resumable-upload: HEAD says how much is here, PATCH goes on from there.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from garbi.base.errors import (
    AlreadyExists,
    Busy,
    Conflict,
    ContentTooLarge,
    DigestMismatch,
    GarbiError,
    ImageInUse,
    ImageRejected,
    InvalidField,
    MalformedRequest,
    NoSpace,
    NotFound,
    NotLeading,
    OffsetMismatch,
    UnknownFilter,
    UnsupportedMedia,
)
from garbi.hyper_api.vocabulary import ImageState
from garbi.iaas.model.image import Image
from garbi.iaas.model.query import IMAGE_FILTERS
from garbi.iaas.rest.state import ControllerOf, Server, ServerState
from garbi.iaas_api.images import ImageSpec
from garbi.web.answers import respond, respond_list
from garbi.web.bodies import Body
from garbi.web.content import BodyReader, Digest, content_body
from garbi.web.listing import link_next, parameters, read_list, takes
from garbi.web.problems import documented
from garbi.web.resumption import KEPT, PARTIAL, UploadComplete, UploadOffset, describe_progress, require_partial

router = APIRouter(tags=["images"])
no_query = [Depends(takes())]
digest_query = [Depends(takes("sha256"))]
SENT = (
    MalformedRequest, UnknownFilter, NotFound, AlreadyExists, Conflict, ContentTooLarge, InvalidField, ImageRejected,
    DigestMismatch, NoSpace, Busy, NotLeading,
)  # fmt: skip


@router.get(
    "/iaas/images",
    response_model=list[Image],
    responses=documented(UnknownFilter, InvalidField),
    openapi_extra=parameters(IMAGE_FILTERS),
)
def list_images(request: Request, response: Response, controller: ControllerOf) -> Response:
    """List the images of the cloud, by name."""
    asked = read_list(request, IMAGE_FILTERS)
    found = controller.images.list(asked.filters, asked.limit, asked.marker)
    link_next(request, response, asked, found, "name")
    return respond_list(Image, found, response)


@router.post(
    "/iaas/images",
    status_code=201,
    response_model=Image,
    dependencies=no_query,
    responses=documented(
        MalformedRequest, UnknownFilter, AlreadyExists, UnsupportedMedia, InvalidField, NoSpace, NotLeading
    ),
)
def register_image(
    spec: Annotated[ImageSpec, Depends(Body(ImageSpec))], response: Response, controller: ControllerOf
) -> Response:
    """Register an image, whose content follows; until it is here and good, no machine can be made from it."""
    image = controller.images.register(spec.name, spec.type)
    response.headers["Location"] = f"/iaas/images/{image.name}"
    return respond(Image, image, response, 201)


@router.get(
    "/iaas/images/{name}",
    response_model=Image,
    dependencies=no_query,
    responses=documented(UnknownFilter, NotFound),
)
def show_image(name: str, controller: ControllerOf) -> Response:
    """Show one image."""
    return respond(Image, controller.images.get(name))


@router.delete(
    "/iaas/images/{name}",
    status_code=204,
    response_class=Response,
    dependencies=no_query,
    responses=documented(UnknownFilter, NotFound, ImageInUse, Busy, NotLeading),
)
def remove_image(name: str, controller: ControllerOf) -> Response:
    """Remove an image that no machine was made from, or what has come of one."""
    controller.images.remove(name)
    return Response(status_code=204)


@router.head(
    "/iaas/images/{name}/file",
    status_code=204,
    response_class=Response,
    dependencies=digest_query,
    responses=documented(UnknownFilter, NotFound),
)
def show_progress(name: str, controller: ControllerOf) -> Response:
    """How much of an image's content is here, in `Upload-Offset`, and in `Upload-Complete` whether that is all."""
    answer = Response(status_code=204)
    complete = controller.images.get(name).state is ImageState.ACTIVE
    describe_progress(answer, controller.images.offset(name), complete)
    return answer


@router.put(
    "/iaas/images/{name}/file",
    response_model=Image,
    dependencies=digest_query,
    responses=documented(*SENT),
    openapi_extra=content_body(),
)
def send_image(name: str, request: Request, response: Response, server: Server, digest: Digest) -> Response:
    """Send the whole content of an image, which is inspected before any machine is made from it."""
    return _receive(server, request, response, name, 0, digest, True)


@router.patch(
    "/iaas/images/{name}/file",
    response_model=Image,
    dependencies=digest_query,
    responses=documented(*SENT, OffsetMismatch, UnsupportedMedia),
    openapi_extra=content_body(PARTIAL),
)
def send_more(
    name: str,
    request: Request,
    response: Response,
    server: Server,
    digest: Digest,
    offset: UploadOffset,
    complete: UploadComplete,
) -> Response:
    """Go on sending the content of an image at `Upload-Offset`, which is where it ended; the last piece is complete."""
    require_partial(request)
    return _receive(server, request, response, name, offset, digest, complete)


def _receive(
    server: ServerState,
    request: Request,
    response: Response,
    name: str,
    offset: int,
    digest: str | None,
    complete: bool,
) -> Response:
    body = BodyReader(request, server, KEPT)
    images = server.controller.images
    with server.uploading():
        try:
            image = images.receive(name, offset, body.blocks(), digest, complete)
        except GarbiError:
            body.drain()
            raise
    describe_progress(response, image.size if complete else images.offset(name), complete)
    return respond(Image, image, response)
