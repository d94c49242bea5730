"""/hyper/machines: make, look at, change and remove the machines of this host."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import PlainTextResponse

from garbi.base.documents import fields_of
from garbi.base.errors import (
    AbilityMissing,
    AlreadyExists,
    AlreadyInState,
    CapacityExceeded,
    Conflict,
    DriverFailed,
    DriverUnavailable,
    InvalidField,
    MalformedRequest,
    NoSpace,
    NotAsWished,
    NotFound,
    PortTaken,
    StaleOrder,
    UnknownFilter,
    UnknownImage,
    UnknownType,
    UnsupportedMedia,
)
from garbi.hyper.model.kept import LONGEST_KEEP_S
from garbi.hyper.model.machine import REACHED, Machine
from garbi.hyper.model.query import MACHINE_FILTERS, MachineQuery
from garbi.hyper.rest.leases import Ordered
from garbi.hyper.rest.state import AgentOf, Server
from garbi.hyper_api import machines as wire
from garbi.hyper_api.host import Figures, MachineFigures, Traces
from garbi.web.answers import respond, respond_list
from garbi.web.bodies import Body
from garbi.web.listing import link_next, parameters, read_list, takes
from garbi.web.preferences import IdempotencyKey, Looking, Waiting
from garbi.web.problems import documented

LOG_DEFAULT = 2**16
LOG_MAX = 2**20

KeepSeconds = Annotated[int, Query(ge=0, le=LONGEST_KEEP_S, description="how long its disk outlives it, in seconds")]

router = APIRouter(tags=["machines"])
no_query = [Depends(takes())]


@router.get(
    "/hyper/machines",
    response_model=list[wire.Machine],
    responses=documented(UnknownFilter, InvalidField),
    openapi_extra=parameters(MACHINE_FILTERS),
)
def list_machines(request: Request, response: Response, agent: AgentOf) -> Response:
    """List the machines of this host, the oldest first."""
    asked = read_list(request, MACHINE_FILTERS)
    query = MachineQuery(asked.filters, asked.limit, asked.marker)
    found = agent.machines.list(query)
    link_next(request, response, asked, found, "id")
    return respond_list(wire.Machine, found, response)


@router.post(
    "/hyper/machines",
    status_code=201,
    response_model=wire.Machine,
    dependencies=no_query,
    responses=documented(
        MalformedRequest, UnknownFilter, NotFound, AlreadyExists, PortTaken, CapacityExceeded, Conflict, StaleOrder,
        UnsupportedMedia, InvalidField, UnknownImage, UnknownType, DriverUnavailable, NoSpace,
    ),
)  # fmt: skip
def add_machine(
    spec: Annotated[wire.MachineSpec, Depends(Body(wire.MachineSpec))],
    response: Response,
    server: Server,
    patience: Waiting,
    key: IdempotencyKey,
    ordered: Ordered,
) -> Response:
    """Make a machine and, unless `state` says `stopped`, start it; wait until it runs, fails, or patience ends.

    A request that comes again with its `Idempotency-Key` is answered with the machine as it is by then, and changes nothing.
    """
    machine = server.agent.machines.add(spec, key, ordered)
    response.headers["Location"] = f"/hyper/machines/{machine.id}"
    return respond(wire.Machine, _present(server.settled(machine, patience, response), machine.id), response, 201)


@router.get(
    "/hyper/machines/{id}",
    response_model=wire.Machine,
    dependencies=no_query,
    responses=documented(UnknownFilter, NotFound),
)
def show_machine(id: str, response: Response, server: Server, patience: Looking) -> Response:
    """Show one machine; with `Prefer: wait=N`, once it has settled."""
    machine = server.settled(server.agent.machines.get(id), patience, response)
    return respond(wire.Machine, _present(machine, id), response)


@router.put(
    "/hyper/machines/{id}",
    response_model=wire.Machine,
    dependencies=no_query,
    responses={
        202: {"description": "The wish is taken, and being fulfilled", "model": wire.Machine},
        **documented(
            MalformedRequest, UnknownFilter, NotFound, AlreadyInState, NotAsWished, AbilityMissing, Conflict, StaleOrder,
            UnsupportedMedia, InvalidField, DriverUnavailable,
        ),
    },
)  # fmt: skip
def wish_machine(
    id: str,
    change: Annotated[wire.MachineChange, Depends(Body(wire.MachineChange))],
    response: Response,
    server: Server,
    patience: Waiting,
    ordered: Ordered,
) -> Response:
    """Start, stop, pause or resume a machine, by saying what it should be; wait until it is, or patience ends.

    200: it is so. 202: it is on its way. 409 `not-as-wished`: it did not become so; the detail says why, and whether it is
    tried again.
    """
    wished = server.agent.machines.wish(id, change.state, ordered)
    machine = _present(server.settled(wished, patience, response), id)
    if machine.settled and machine.state is not REACHED[change.state]:
        why = machine.reason or f"it is to be {machine.wish} by now"
        raise NotAsWished(f"{id} is {machine.state}: {why}", state=machine.state.value)
    return respond(wire.Machine, machine, response, 200 if machine.settled else 202)


@router.delete(
    "/hyper/machines/{id}",
    status_code=204,
    response_class=Response,
    dependencies=[Depends(takes("keep_s"))],
    responses={
        202: {"description": "It is being removed", "model": wire.Machine},
        **documented(MalformedRequest, UnknownFilter, NotFound, Conflict, StaleOrder, InvalidField, DriverUnavailable),
    },
)
def remove_machine(id: str, server: Server, patience: Waiting, ordered: Ordered, keep_s: KeepSeconds = 0) -> Response:
    """Remove a machine and all that belongs to it, whatever it is doing: 204 when it is gone, 202 while it is going.

    With `keep_s`, its disk is kept for so many seconds, as `/hyper/kept` lists it. What an engine has of an id that no machine
    has is removed too.
    """
    gone = Response(status_code=204)
    going = server.agent.machines.remove(id, keep_s, ordered)
    machine = None if going is None else server.settled(going, patience, gone)
    if machine is None:
        return gone
    return respond(wire.Machine, machine, gone, 202)


@router.get(
    "/hyper/machines/{id}/log",
    dependencies=[Depends(takes("limit"))],
    response_class=PlainTextResponse,
    responses=documented(
        UnknownFilter, NotFound, AbilityMissing, Conflict, InvalidField, DriverFailed, DriverUnavailable
    ),
)
def show_log(
    id: str, agent: AgentOf, limit: Annotated[int, Query(ge=1, le=LOG_MAX, description="bytes")] = LOG_DEFAULT
) -> PlainTextResponse:
    """The end of what the machine wrote to its console."""
    return PlainTextResponse(agent.machines.console_log(id, limit).decode("utf-8", "replace"))


@router.get(
    "/hyper/machines/{id}/figures",
    response_model=MachineFigures,
    dependencies=no_query,
    responses=documented(UnknownFilter, NotFound, AbilityMissing, Conflict, DriverFailed, DriverUnavailable),
)
def show_figures(id: str, agent: AgentOf) -> Response:
    """Live figures of a running machine: CPU, memory, disk and network."""
    figures = agent.machines.figures(id)
    return respond(MachineFigures, MachineFigures(**fields_of(Figures, figures), id=id))


@router.get(
    "/hyper/machines/{id}/traces",
    response_model=Traces,
    dependencies=[Depends(takes("type"))],
    responses=documented(UnknownFilter, StaleOrder, InvalidField, UnknownType, DriverUnavailable),
)
def show_traces(
    id: str, type: Annotated[str, Query(description="which driver made it")], agent: AgentOf, ordered: Ordered
) -> Response:
    """What is left of a machine: whether it is recorded here, and whether its engine has it, which is asked."""
    found = agent.machines.find_traces(id, type, ordered)
    return respond(Traces, Traces(id, type, found.recorded, found.at_engine))


def _present(machine: Machine | None, machine_id: str) -> Machine:
    if machine is None:
        raise NotFound(f"no machine has the id {machine_id}")
    return machine
