"""/hyper/leases: the regular check of a controller, and what its other nodes ask when they miss it."""

from __future__ import annotations

import os
import re
from functools import partial
from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Depends, Header, Request, Response
from starlette.types import Scope

from garbi.base.errors import (
    InvalidField,
    MalformedRequest,
    NotFound,
    StaleOrder,
    StorageFailed,
    UnknownFilter,
    UnsupportedMedia,
)
from garbi.hyper.agent import Agent
from garbi.hyper.host.capacity import memory_available_mib, memory_total_mib
from garbi.hyper.leases.leases import LeaseStatus
from garbi.hyper.leases.record import Renewal
from garbi.hyper.rest.state import AgentOf, Server
from garbi.hyper_api import leases as schemas
from garbi.hyper_api.assignment import HEADER as ASSIGNMENT
from garbi.hyper_api.assignment import Assignment
from garbi.web.identity import HEADER, SCHEME, Authenticator, Caller
from garbi.web.listing import link_next, parameters, read_list, select, takes
from garbi.web.problems import documented

FILTERS = ("controller", "term", "number", "active", "armed")
WITNESS = Caller("witness")
_WITNESS_PATH = re.compile(r"/hyper/leases/([0-9a-f]{32})/witness\Z")

router = APIRouter(tags=["leases"])


async def _assignment(
    request: Request,
    garbi_assignment: Annotated[
        str | None,
        Header(description="under which authority a controller gives this order; without it nothing is checked"),
    ] = None,
) -> Assignment | None:
    shown = request.headers.getlist(ASSIGNMENT)
    if len(shown) > 1:
        raise MalformedRequest(f"the header {ASSIGNMENT} is given twice")
    return Assignment.from_header(garbi_assignment) if garbi_assignment is not None else None


Ordered = Annotated[Assignment | None, Depends(_assignment)]
"""The authority under which a request changes a machine."""


class LeaseAuthenticator(Authenticator):
    """Knows, beside the owner, the other nodes of a controller: on the one path that is theirs, by the key of its lease."""

    def __init__(self, agent: Agent) -> None:
        super().__init__(agent.secret)
        self._leases = agent.leases

    def __call__(self, scope: Scope) -> Caller:
        asked = _WITNESS_PATH.match(scope["path"]) if scope["method"] == "GET" else None
        shown = [value for name, value in scope["headers"] if name == HEADER]
        if asked is not None and len(shown) == 1:
            scheme, _, key = shown[0].partition(b" ")
            if scheme.lower() == SCHEME and self._leases.is_witness_key(asked[1], key.strip()):
                return WITNESS
        return super().__call__(scope)


@router.get("/hyper/leases", responses=documented(UnknownFilter, InvalidField), openapi_extra=parameters(FILTERS))
def list_leases(request: Request, response: Response, agent: AgentOf) -> list[schemas.Lease]:
    """List the leases that controllers have on this host."""
    asked = read_list(request, FILTERS)
    found = select([_describe(status) for status in agent.leases.all()], asked, "controller")
    link_next(request, response, asked, found, "controller")
    return found


@router.put(
    "/hyper/leases/{controller}",
    dependencies=[Depends(takes())],
    responses=documented(MalformedRequest, UnknownFilter, StaleOrder, UnsupportedMedia, InvalidField, StorageFailed),
)
async def renew_lease(controller: str, body: schemas.LeaseRequest, server: Server) -> schemas.LeaseAnswer:
    """Renew the lease of a controller, or begin it. This is the regular check of a host: it costs next to nothing."""
    # In threads of its own: a lease must not end because all others are waiting for something.
    renewed = partial(server.agent.leases.renew, _read(controller, body))
    status = await to_thread.run_sync(renewed, limiter=server.renewals)
    return _answer(server.agent, status)


@router.get(
    "/hyper/leases/{controller}/witness",
    dependencies=[Depends(takes())],
    responses=documented(UnknownFilter, NotFound),
)
async def bear_witness(controller: str, agent: AgentOf) -> schemas.Witness:
    """When this host last heard a controller. Its other nodes may ask, by the key in their lease, and nothing else."""
    age_s = agent.leases.age_s(controller)
    if age_s is None:
        raise NotFound(f"no controller {controller[:80]} has a lease here")
    return schemas.Witness(controller=controller, age_s=round(age_s, 3))


def _read(controller: str, body: schemas.LeaseRequest) -> Renewal:
    return Renewal(
        controller=controller,
        holder=body.holder,
        term=body.term,
        number=body.number,
        ttl_s=body.ttl_s,
        arm=body.arm,
        seen=None if body.seen is None else body.seen.moment,
        seen_boot="" if body.seen is None else body.seen.boot_id,
        peers=tuple(body.peers),
        witness_key=body.witness_key,
    )


def _answer(agent: Agent, status: LeaseStatus) -> schemas.LeaseAnswer:
    lease = status.lease
    return schemas.LeaseAnswer(
        controller=lease.controller,
        term=lease.term,
        number=lease.number,
        fenced=lease.fenced,
        boot_id=status.boot_id,
        cluster_id=agent.cluster_id,
        moment=status.moment,
        expires_in_s=status.expires_in_s,
        active=status.active,
        armed=lease.armed,
        guarded=status.guarded,
        peers_heard=status.peers_heard,
        delay_s=round(status.delay_s, 3),
        last_event=agent.last_event,
        unwritable=agent.unwritable(),
        going_down=agent.departure.answer(lease.controller),
        load1=round(os.getloadavg()[0], 2),
        mem_used=memory_total_mib() - memory_available_mib(),
    )


def _describe(status: LeaseStatus) -> schemas.Lease:
    lease = status.lease
    return schemas.Lease(
        controller=lease.controller,
        term=lease.term,
        number=lease.number,
        fenced=lease.fenced,
        active=status.active,
        armed=lease.armed,
        guarded=status.guarded,
        age_s=status.age_s,
        expires_in_s=status.expires_in_s,
        peers=list(lease.peers),
        peers_heard=status.peers_heard,
    )
