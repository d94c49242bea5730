"""/hyper/drivers: what this host can run machines with, and why it cannot."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from garbi.base.errors import InvalidField, UnknownFilter
from garbi.hyper.agent.agent import DriverStatus
from garbi.hyper.rest.state import AgentOf
from garbi.hyper_api.host import Driver
from garbi.web.answers import respond_list
from garbi.web.listing import link_next, parameters, read_list, select
from garbi.web.problems import documented

FILTERS = ("name", "available", "version")

router = APIRouter(tags=["drivers"])


@router.get(
    "/hyper/drivers",
    response_model=list[Driver],
    responses=documented(UnknownFilter, InvalidField),
    openapi_extra=parameters(FILTERS),
)
def list_drivers(request: Request, response: Response, agent: AgentOf) -> Response:
    """List the drivers: whether they are available or why not, their version, what they are able to."""
    asked = read_list(request, FILTERS)
    found = select([describe(status) for status in agent.list_drivers()], asked, "name")
    link_next(request, response, asked, found, "name")
    return respond_list(Driver, found, response)


def describe(status: DriverStatus) -> Driver:
    """A driver as it travels."""
    info = status.info
    return Driver(
        info.name,
        info.available,
        info.reason,
        info.version,
        tuple(status.abilities),
        tuple(str(each) for each in status.image_types),
        info.details,
    )
