"""/hyper/kept: the disks that outlive their machines."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Request, Response

from garbi.base.errors import (
    AbilityMissing,
    Busy,
    DriverFailed,
    DriverUnavailable,
    InvalidField,
    NotFound,
    UnknownFilter,
)
from garbi.hyper.model.query import KEPT_FILTERS
from garbi.hyper.rest.state import AgentOf
from garbi.hyper_api.kept import KeptDisk
from garbi.web.answers import respond, respond_list
from garbi.web.listing import link_next, parameters, read_list, select, takes
from garbi.web.problems import documented

router = APIRouter(tags=["kept disks"])


@router.get(
    "/hyper/kept",
    response_model=list[KeptDisk],
    responses=documented(UnknownFilter, InvalidField),
    openapi_extra=parameters(KEPT_FILTERS),
)
def list_kept(request: Request, response: Response, agent: AgentOf) -> Response:
    """List the disks that are kept, by name."""
    asked = read_list(request, KEPT_FILTERS)
    found = select(agent.kept.list(), asked, "name")
    link_next(request, response, asked, found, "name")
    return respond_list(KeptDisk, found, response)


@router.get(
    "/hyper/kept/{name}",
    response_model=KeptDisk,
    dependencies=[Depends(takes())],
    responses=documented(UnknownFilter, NotFound),
)
def show_kept(name: str, agent: AgentOf) -> Response:
    """Show one kept disk."""
    return respond(KeptDisk, agent.kept.get(name))


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
