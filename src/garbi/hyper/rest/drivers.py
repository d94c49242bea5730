"""/hyper/drivers: what this host can run machines with, and why it cannot."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from garbi.base.errors import InvalidField, UnknownFilter
from garbi.hyper.agent.agent import DriverStatus
from garbi.hyper.rest.state import AgentOf
from garbi.hyper_api import schemas
from garbi.web.listing import link_next, parameters, read_list, select
from garbi.web.problems import documented

FILTERS = ("name", "available", "version")

router = APIRouter(tags=["drivers"])


@router.get("/hyper/drivers", responses=documented(UnknownFilter, InvalidField), openapi_extra=parameters(FILTERS))
def list_drivers(request: Request, response: Response, agent: AgentOf) -> list[schemas.Driver]:
    """List the drivers: whether they are available or why not, their version, what they are able to."""
    asked = read_list(request, FILTERS)
    found = select([describe(status) for status in agent.list_drivers()], asked, "name")
    link_next(request, response, asked, found, "name")
    return found


def describe(status: DriverStatus) -> schemas.Driver:
    """A driver as it travels."""
    return schemas.Driver(
        name=status.info.name,
        available=status.info.available,
        reason=status.info.reason,
        version=status.info.version,
        abilities=status.abilities,
        image_types=[str(each) for each in status.image_types],
        details=dict(status.info.details),
    )
