"""/hyper/images: the images that this host has, and how their content comes in."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response

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
from garbi.hyper.rest.state import AgentOf, Server
from garbi.hyper_api import schemas
from garbi.web.content import BodyReader, Digest, content_body, declared_size
from garbi.web.listing import link_next, parameters, read_list, select, takes
from garbi.web.problems import documented

router = APIRouter(tags=["images"])


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
    openapi_extra=content_body(),
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
    body = BodyReader(request, server)
    present = {image.name: image for image in server.agent.images.list()}.get(name)
    with server.uploading():
        try:
            image = server.agent.images.add(name, ImageType(type), body.blocks(), digest, declared_size(request))
        except GarbiError:
            body.drain()
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
