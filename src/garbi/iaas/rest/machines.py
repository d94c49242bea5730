"""/iaas/machines: make, look at, change and remove the machines of the cloud."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse

from garbi.base.clock import to_wire
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
from garbi.hyper_api.schemas import Figures
from garbi.hyper_api.vocabulary import NodeFailurePolicy, Protocol, PublishedPort, RestartPolicy, Wish
from garbi.iaas.model.machine import REACHED, Machine, MachineSpec, Strategy
from garbi.iaas.model.query import MACHINE_FILTERS
from garbi.iaas.rest.state import ControllerOf, Server, ServerState
from garbi.iaas.scheduler import Explanation
from garbi.iaas_api import requests, schemas
from garbi.web.listing import link_next, parameters, read_list, takes
from garbi.web.preferences import IdempotencyKey, Looking, Waiting
from garbi.web.problems import documented

LOG_DEFAULT = 2**16
LOG_MAX = 2**20

router = APIRouter(tags=["machines"])
no_query = [Depends(takes())]


@router.get(
    "/iaas/machines",
    response_model=list[schemas.Machine],
    responses=documented(UnknownFilter, InvalidField),
    openapi_extra=parameters(MACHINE_FILTERS),
)
def list_machines(request: Request, controller: ControllerOf) -> Response:
    """List the machines of the cloud, the oldest first."""
    asked = read_list(request, MACHINE_FILTERS)
    found = controller.machines.list(asked.filters, asked.limit, asked.marker)
    response = JSONResponse([describe(machine) for machine in found])
    link_next(request, response, asked, found, "id")
    return response


@router.post(
    "/iaas/machines",
    status_code=201,
    dependencies=no_query,
    response_model=schemas.Machine,
    responses={
        202: {"description": "It is accepted and being made", "model": schemas.Machine},
        **documented(
            MalformedRequest, UnknownFilter, NotFound, AlreadyExists, PortTaken, CapacityExceeded, NothingFits, Conflict,
            UnsupportedMedia, InvalidField, UnknownImage, UnknownType, DriverFailed, DriverUnavailable, NoSpace, Busy,
        ),
    },
)  # fmt: skip
def add_machine(body: requests.MachineRequest, server: Server, patience: Waiting, key: IdempotencyKey) -> Response:
    """Make a machine where it fits and, unless `state` says `stopped`, start it; wait until it runs, fails, or patience ends.

    What its node refuses while the request waits is answered with that refusal, and nothing is kept. A request that comes again
    with its `Idempotency-Key` is answered with the machine as it is by then, and changes nothing.
    """
    accepted = server.controller.machines.answer(read_spec(body), idempotency_key=key)
    machine, headers = accepted.machine, Response()
    settled = _present(server.settled(machine, patience, headers), machine.id, server)
    if settled.refused and settled.settled and not accepted.again:
        refusal = server.controller.machines.withdraw(machine)
        if refusal is not None:
            raise refusal
    return _answer(settled, headers, 201 if settled.settled else 202, {"Location": f"/iaas/machines/{machine.id}"})


@router.post(
    "/iaas/machines/explain",
    dependencies=no_query,
    responses=documented(
        MalformedRequest, UnknownFilter, UnsupportedMedia, InvalidField, UnknownImage, UnknownType, Conflict
    ),
)
def explain_machine(body: requests.MachineRequest, controller: ControllerOf) -> schemas.Explanation:
    """Where such a machine would run, and the verdict on each node with its reason; places nothing."""
    return describe_explanation(controller.machines.explain(read_spec(body)))


@router.get(
    "/iaas/machines/{id}",
    dependencies=no_query,
    response_model=schemas.Machine,
    responses=documented(UnknownFilter, NotFound),
)
def show_machine(id: str, server: Server, patience: Looking) -> Response:
    """Show one machine; with `Prefer: wait=N`, once it has settled."""
    headers = Response()
    machine = server.settled(server.controller.machines.get(id), patience, headers)
    return _answer(_present(machine, id, server), headers, 200)


@router.put(
    "/iaas/machines/{id}",
    dependencies=no_query,
    response_model=schemas.Machine,
    responses={
        202: {"description": "The wish is taken, and being fulfilled", "model": schemas.Machine},
        **documented(
            MalformedRequest, UnknownFilter, NotFound, AlreadyInState, NotAsWished, AbilityMissing, Conflict,
            UnsupportedMedia, InvalidField, DriverUnavailable,
        ),
    },
)  # fmt: skip
def wish_machine(id: str, body: requests.MachineWishRequest, server: Server, patience: Waiting) -> Response:
    """Start, stop, pause or resume a machine, by saying what it should be; wait until it is, or patience ends.

    200: it is so. 202: it is on its way. 409 `not-as-wished`: it did not become so; the detail says why, and whether its node
    tries again.
    """
    headers = Response()
    wish = Wish(body.state)
    machine = server.settled(server.controller.machines.wish(id, wish), patience, headers)
    present = _present(machine, id, server)
    if present.settled and present.state is not REACHED[wish]:
        why = present.reason or f"it is to be {present.wish} by now"
        raise NotAsWished(f"{id} is {present.state}: {why}", state=present.state.value)
    return _answer(present, headers, 200 if present.settled else 202)


@router.delete(
    "/iaas/machines/{id}",
    status_code=204,
    response_class=Response,
    dependencies=no_query,
    responses={
        202: {"description": "It is being removed", "model": schemas.Machine},
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
    dependencies=no_query,
    responses=documented(
        UnknownFilter, NotFound, AbilityMissing, Conflict, DriverFailed, DriverUnavailable, NodeUnreachable
    ),
)
def show_figures(id: str, controller: ControllerOf) -> Figures:
    """Live figures of a running machine: CPU, memory, disk and network."""
    return Figures(**controller.machines.figures(id))


def _present(machine: Machine | None, machine_id: str, server: ServerState) -> Machine:
    """The machine, or, when it was gone after the wait, the error that says who removed it."""
    return server.controller.machines.get(machine_id) if machine is None else machine


def _answer(machine: Machine, waited: Response, status: int, headers: dict[str, str] | None = None) -> Response:
    applied = waited.headers.get("preference-applied")
    sent = {**(headers or {}), **({} if applied is None else {"Preference-Applied": applied})}
    if machine.operation is not None:
        sent["Operation-Location"] = f"/iaas/operations/{machine.operation}"
    return JSONResponse(describe(machine), status_code=status, headers=sent)


def read_spec(body: requests.MachineRequest) -> MachineSpec:
    """What a request asks for as a value; the model checks it."""
    return MachineSpec(
        image=body.image,
        type=body.type,
        id=body.id,
        name=body.name,
        mem=body.mem,
        cpus=body.cpus,
        disk=body.disk,
        node=body.node,
        ports=tuple(PublishedPort(port.node_port, port.machine_port, Protocol(port.protocol)) for port in body.ports),
        labels=body.labels,
        require=body.require,
        apart=body.apart,
        strategy=None if body.strategy is None else Strategy(body.strategy),
        wish=Wish(body.state),
        full_copy=body.full_copy,
        restart=RestartPolicy(body.restart),
        on_node_failure=None if body.on_node_failure is None else NodeFailurePolicy(body.on_node_failure),
    )


def describe(machine: Machine) -> dict[str, Any]:
    """A machine as it travels: `schemas.Machine`, without the cost of checking it, which a list of thousands would feel."""
    return {
        "id": machine.id,
        "name": machine.name,
        "type": machine.type,
        "image": machine.image,
        "image_sha256": machine.image_sha256,
        "mem": machine.mem,
        "cpus": machine.cpus,
        "disk": machine.disk,
        "node": machine.node,
        "ports": [
            {"node_port": port.node_port, "machine_port": port.machine_port, "protocol": port.protocol.value}
            for port in machine.ports
        ],
        "address": machine.address,
        "labels": dict(machine.labels),
        "require": dict(machine.require),
        "apart": machine.apart,
        "full_copy": machine.full_copy,
        "state": machine.state.value,
        "wish": machine.wish.value,
        "settled": machine.settled,
        "reason": machine.reason,
        "on_node_failure": machine.on_node_failure.value,
        "restart": machine.restart.value,
        "epoch": machine.epoch,
        "operation": machine.operation,
        "seen_at": None if machine.seen_at is None else to_wire(machine.seen_at),
        "created_at": to_wire(machine.created_at),
        "updated_at": to_wire(machine.updated_at),
    }


def describe_explanation(explanation: Explanation) -> schemas.Explanation:
    """An explanation as it travels."""
    verdicts = [schemas.Verdict(**verdict.document()) for verdict in explanation.verdicts]
    return schemas.Explanation(
        chosen=explanation.chosen,
        strategy=explanation.strategy.value,
        summary=explanation.summary(),
        verdicts=verdicts,
    )
