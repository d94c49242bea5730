"""/hyper/host, /hyper/audit, /hyper/health: what the host has, whether its invariants hold, whether the agent works."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Request, Response

from garbi import __version__
from garbi.base.audit import Violation
from garbi.base.documents import fields_of
from garbi.base.errors import InvalidField, StorageFailed, UnknownFilter
from garbi.hyper.rest.state import AgentOf
from garbi.hyper_api.host import Health, Host, HostReport, Limits, Reserved
from garbi.web.answers import respond, respond_list
from garbi.web.listing import link_next, parameters, read_list, select, takes
from garbi.web.problems import documented

VIOLATION_FILTERS = ("invariant", "subject", "detail")

router = APIRouter(tags=["host"])


@router.get("/hyper/host", response_model=Host, dependencies=[Depends(takes())], responses=documented(UnknownFilter))
def show_host(agent: AgentOf) -> Response:
    """What this host has, what of it is in use, its versions, and what virtualisation its processor offers."""
    machines = agent.machines.list()
    host = Host(
        **fields_of(HostReport, agent.host()),
        node=agent.settings.node_name,
        cluster_id=agent.cluster_id,
        limits=Limits(agent.capacity.mem, agent.capacity.cpus),
        reserved=Reserved(len(machines), sum(one.mem for one in machines), sum(one.cpus for one in machines)),
    )
    return respond(Host, host)


@router.get(
    "/hyper/audit",
    response_model=list[Violation],
    responses=documented(UnknownFilter, InvalidField),
    openapi_extra=parameters(VIOLATION_FILTERS),
)
def audit(request: Request, response: Response, agent: AgentOf) -> Response:
    """Check the invariants now, and list what breaks them; an empty list is a healthy host."""
    asked = read_list(request, VIOLATION_FILTERS)
    found = select(agent.audit(), asked, "subject")
    link_next(request, response, asked, found, "subject")
    return respond_list(Violation, found, response)


@router.get(
    "/hyper/health",
    response_model=Health,
    dependencies=[Depends(takes())],
    responses={503: {"description": "it does not", "model": Health}, **documented(UnknownFilter)},
)
def health(agent: AgentOf) -> Response:
    """Whether the agent does its work."""
    if agent.healthy():
        return respond(Health, Health(status="ok", version=__version__))
    failure = agent.unwritable()
    code = StorageFailed.code if failure else None
    return respond(Health, Health(status="failing", version=__version__, code=code, detail=failure or None), status=503)
