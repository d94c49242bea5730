"""/hyper/kept: the disks that outlive their machines."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Request, Response

from garbi.base.clock import to_wire
from garbi.base.errors import (
    AbilityMissing,
    Busy,
    DriverFailed,
    DriverUnavailable,
    InvalidField,
    NotFound,
    UnknownFilter,
)
from garbi.hyper.model.kept import Kept
from garbi.hyper.model.query import KEPT_FILTERS
from garbi.hyper.rest.state import AgentOf
from garbi.hyper_api import schemas
from garbi.web.listing import link_next, parameters, read_list, select, takes
from garbi.web.problems import documented

router = APIRouter(tags=["kept disks"])


@router.get("/hyper/kept", responses=documented(UnknownFilter, InvalidField), openapi_extra=parameters(KEPT_FILTERS))
def list_kept(request: Request, response: Response, agent: AgentOf) -> list[schemas.KeptDisk]:
    """List the disks that are kept, by name."""
    asked = read_list(request, KEPT_FILTERS)
    found = select([describe(record) for record in agent.kept.list()], asked, "name")
    link_next(request, response, asked, found, "name")
    return found


@router.get("/hyper/kept/{name}", dependencies=[Depends(takes())], responses=documented(UnknownFilter, NotFound))
def show_kept(name: str, agent: AgentOf) -> schemas.KeptDisk:
    """Show one kept disk."""
    return describe(agent.kept.get(name))


@router.delete(
    "/hyper/kept/{name}",
    status_code=204,
    response_class=Response,
    dependencies=[Depends(takes())],
    responses=documented(UnknownFilter, NotFound, AbilityMissing, Busy, DriverFailed, DriverUnavailable),
)
def remove_kept(name: str, agent: AgentOf) -> Response:
    """Delete a kept disk before its time is over."""
    agent.kept.remove(name)
    return Response(status_code=204)


def describe(record: Kept) -> schemas.KeptDisk:
    """A kept disk as it travels."""
    return schemas.KeptDisk(
        name=record.name,
        machine_id=record.machine_id,
        type=record.type,
        image_sha256=record.image_sha256,
        epoch=record.epoch,
        place=record.place,
        size=record.size,
        kept_at=to_wire(record.kept_at),
        keep_s=record.keep_s,
        left_s=record.left_s,
    )
