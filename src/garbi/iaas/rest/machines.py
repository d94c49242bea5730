"""/iaas/machines: make, look at, change and remove the machines of the cloud."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse

from garbi.base.documents import fields_of
from garbi.base.errors import (
    AbilityMissing,
    AlreadyExists,
    AlreadyInState,
    Busy,
    CapacityExceeded,
    Conflict,
    DriverFailed,
    DriverUnavailable,
    InvalidField,
    MalformedRequest,
    NodeUnreachable,
    NoSpace,
    NotAsWished,
    NotFound,
    NothingFits,
    PortTaken,
    UnknownFilter,
    UnknownImage,
    UnknownType,
    UnsupportedMedia,
)
from garbi.hyper_api.host import MachineFigures
from garbi.iaas.model.machine import REACHED, Machine
from garbi.iaas.model.query import MACHINE_FILTERS
from garbi.iaas.rest.state import ControllerOf, Server, ServerState
from garbi.iaas.scheduler import Explanation
from garbi.iaas_api import machines as wire
from garbi.iaas_api import placement
from garbi.web.answers import respond, respond_list
from garbi.web.bodies import Body
from garbi.web.listing import link_next, parameters, read_list, takes
from garbi.web.preferences import IdempotencyKey, Looking, Waiting
from garbi.web.problems import documented

LOG_DEFAULT = 2**16
LOG_MAX = 2**20

Spec = Annotated[wire.MachineSpec, Depends(Body(wire.MachineSpec))]

router = APIRouter(tags=["machines"])
no_query = [Depends(takes())]


@router.get(
    "/iaas/machines",
    response_model=list[wire.Machine],
    responses=documented(UnknownFilter, InvalidField),
    openapi_extra=parameters(MACHINE_FILTERS),
)
def list_machines(request: Request, response: Response, controller: ControllerOf) -> Response:
    """List the machines of the cloud, the oldest first."""
    asked = read_list(request, MACHINE_FILTERS)
    found = controller.machines.list(asked.filters, asked.limit, asked.marker)
    link_next(request, response, asked, found, "id")
    return respond_list(wire.Machine, found, response)


@router.post(
    "/iaas/machines",
    status_code=201,
    dependencies=no_query,
    response_model=wire.Machine,
    responses={
        202: {"description": "It is accepted and being made", "model": wire.Machine},
        **documented(
            MalformedRequest, UnknownFilter, NotFound, AlreadyExists, PortTaken, CapacityExceeded, NothingFits, Conflict,
            UnsupportedMedia, InvalidField, UnknownImage, UnknownType, DriverFailed, DriverUnavailable, NoSpace, Busy,
        ),
    },
)  # fmt: skip
def add_machine(spec: Spec, response: Response, server: Server, patience: Waiting, key: IdempotencyKey) -> Response:
    """Make a machine where it fits and, unless `state` says `stopped`, start it; wait until it runs, fails, or patience ends.

    What its node refuses while the request waits is answered with that refusal, and nothing is kept. A request that comes again
    with its `Idempotency-Key` is answered with the machine as it is by then, and changes nothing.
    """
    accepted = server.controller.machines.answer(spec, idempotency_key=key)
    machine = accepted.machine
    settled = _present(server.settled(machine, patience, response), machine.id, server)
    if settled.refused and settled.settled and not accepted.again:
        refusal = server.controller.machines.withdraw(machine)
        if refusal is not None:
            raise refusal
    response.headers["Location"] = f"/iaas/machines/{machine.id}"
    return _answer(settled, response, 201 if settled.settled else 202)


@router.post(
    "/iaas/machines/explain",
    response_model=placement.Explanation,
    dependencies=no_query,
    responses=documented(
        MalformedRequest, UnknownFilter, UnsupportedMedia, InvalidField, UnknownImage, UnknownType, Conflict
    ),
)
def explain_machine(spec: Spec, controller: ControllerOf) -> Response:
    """Where such a machine would run, and the verdict on each node with its reason; places nothing."""
    return respond(placement.Explanation, describe_explanation(controller.machines.explain(spec)))


@router.get(
    "/iaas/machines/{id}",
    dependencies=no_query,
    response_model=wire.Machine,
    responses=documented(UnknownFilter, NotFound),
)
def show_machine(id: str, response: Response, server: Server, patience: Looking) -> Response:
    """Show one machine; with `Prefer: wait=N`, once it has settled."""
    machine = server.settled(server.controller.machines.get(id), patience, response)
    return _answer(_present(machine, id, server), response, 200)


@router.put(
    "/iaas/machines/{id}",
    dependencies=no_query,
    response_model=wire.Machine,
    responses={
        202: {"description": "The wish is taken, and being fulfilled", "model": wire.Machine},
        **documented(
            MalformedRequest, UnknownFilter, NotFound, AlreadyInState, NotAsWished, AbilityMissing, Conflict,
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
) -> Response:
    """Start, stop, pause or resume a machine, by saying what it should be; wait until it is, or patience ends.

    200: it is so. 202: it is on its way. 409 `not-as-wished`: it did not become so; the detail says why, and whether its node
    tries again.
    """
    machine = server.settled(server.controller.machines.wish(id, change.state), patience, response)
    present = _present(machine, id, server)
    if present.settled and present.state is not REACHED[change.state]:
        why = present.reason or f"it is to be {present.wish} by now"
        raise NotAsWished(f"{id} is {present.state}: {why}", state=present.state.value)
    return _answer(present, response, 200 if present.settled else 202)


@router.delete(
    "/iaas/machines/{id}",
    status_code=204,
    response_class=Response,
    dependencies=no_query,
    responses={
        202: {"description": "It is being removed", "model": wire.Machine},
        **documented(UnknownFilter, NotFound, Conflict),
    },
)
def remove_machine(id: str, server: Server, patience: Waiting) -> Response:
    """Remove a machine and all that belongs to it, whatever it is doing: 204 when it is gone, 202 while it is going."""
    gone = Response(status_code=204)
    machine = server.settled(server.controller.machines.remove(id), patience, gone)
    return gone if machine is None else _answer(machine, gone, 202)


@router.get(
    "/iaas/machines/{id}/log",
    dependencies=[Depends(takes("limit"))],
    response_class=PlainTextResponse,
    responses=documented(
        UnknownFilter, NotFound, AbilityMissing, Conflict, InvalidField, DriverFailed, DriverUnavailable,
        NodeUnreachable,
    ),
)  # fmt: skip
def show_log(
    id: str,
    controller: ControllerOf,
    limit: Annotated[int, Query(ge=1, le=LOG_MAX, description="bytes")] = LOG_DEFAULT,
) -> PlainTextResponse:
    """The end of what the machine wrote to its console."""
    return PlainTextResponse(controller.machines.console_log(id, limit).decode("utf-8", "replace"))


@router.get(
    "/iaas/machines/{id}/figures",
    response_model=MachineFigures,
    dependencies=no_query,
    responses=documented(
        UnknownFilter, NotFound, AbilityMissing, Conflict, DriverFailed, DriverUnavailable, NodeUnreachable
    ),
)
def show_figures(id: str, controller: ControllerOf) -> Response:
    """Live figures of a running machine: CPU, memory, disk and network."""
    return JSONResponse(controller.machines.figures(id))


def _present(machine: Machine | None, machine_id: str, server: ServerState) -> Machine:
    """The machine, or, when it was gone after the wait, the error that says who removed it."""
    return server.controller.machines.get(machine_id) if machine is None else machine


def _answer(machine: Machine, prepared: Response, status: int) -> Response:
    if machine.operation is not None:
        prepared.headers["Operation-Location"] = f"/iaas/operations/{machine.operation}"
    return respond(wire.Machine, machine, prepared, status)


def describe_explanation(explanation: Explanation) -> placement.Explanation:
    """An explanation as it travels."""
    verdicts = tuple(placement.Verdict(**fields_of(placement.Verdict, each)) for each in explanation.verdicts)
    return placement.Explanation(explanation.chosen, explanation.strategy, explanation.summary(), verdicts)
