"""/hyper/host, /hyper/audit, /hyper/health: what the host has, whether its invariants hold, whether the agent works."""

from __future__ import annotations

from dataclasses import asdict

from fastapi import APIRouter, Depends, Request, Response

from garbi import __version__
from garbi.base.errors import InvalidField, StorageFailed, UnknownFilter
from garbi.hyper.rest.state import AgentOf
from garbi.hyper_api import schemas
from garbi.web.listing import link_next, parameters, read_list, select, takes
from garbi.web.problems import documented

VIOLATION_FILTERS = ("invariant", "subject", "detail")

router = APIRouter(tags=["host"])


@router.get("/hyper/host", dependencies=[Depends(takes())], responses=documented(UnknownFilter))
def show_host(agent: AgentOf) -> schemas.Host:
    """What this host has, what of it is in use, its versions, and what virtualisation its processor offers."""
    machines = agent.machines.list()
    reserved = schemas.Reserved(
        machines=len(machines), mem=sum(one.mem for one in machines), cpus=sum(one.cpus for one in machines)
    )
    return schemas.Host(
        node=agent.settings.node_name,
        cluster_id=agent.cluster_id,
        limits=schemas.Limits(mem=agent.capacity.mem, cpus=agent.capacity.cpus),
        reserved=reserved,
        **asdict(agent.host()),
    )


@router.get(
    "/hyper/audit", responses=documented(UnknownFilter, InvalidField), openapi_extra=parameters(VIOLATION_FILTERS)
)
def audit(request: Request, response: Response, agent: AgentOf) -> list[schemas.Violation]:
    """Check the invariants now, and list what breaks them; an empty list is a healthy host."""
    asked = read_list(request, VIOLATION_FILTERS)
    found = select([schemas.Violation(**asdict(violation)) for violation in agent.audit()], asked, "subject")
    link_next(request, response, asked, found, "subject")
    return found


@router.get(
    "/hyper/health",
    dependencies=[Depends(takes())],
    responses={503: {"description": "it does not", "model": schemas.Health}, **documented(UnknownFilter)},
)
def health(agent: AgentOf, response: Response) -> schemas.Health:
    """Whether the agent does its work."""
    if agent.healthy():
        return schemas.Health(status="ok", version=__version__)
    response.status_code = 503
    failure = agent.unwritable()
    return schemas.Health(
        status="failing",
        version=__version__,
        code=StorageFailed.code if failure else None,
        detail=failure or None,
    )
