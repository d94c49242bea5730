"""/iaas/operations: what takes time, and how far it is."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Request, Response

from garbi.base.clock import from_wire, to_wire
from garbi.base.errors import InvalidField, NotFound, UnknownFilter
from garbi.iaas.model.operation import Operation
from garbi.iaas.model.query import OPERATION_FILTERS
from garbi.iaas.rest.state import ControllerOf, Server
from garbi.web.answers import respond, respond_list
from garbi.web.listing import link_next, parameters, read_list, takes
from garbi.web.preferences import Looking
from garbi.web.problems import documented

_TAG = re.compile(r'(?:W/)?"([0-9TZ:.-]{1,40})"')

router = APIRouter(tags=["operations"])


@router.get(
    "/iaas/operations",
    response_model=list[Operation],
    responses=documented(UnknownFilter, InvalidField),
    openapi_extra=parameters(OPERATION_FILTERS),
)
def list_operations(request: Request, response: Response, controller: ControllerOf) -> Response:
    """List the operations, the oldest first."""
    asked = read_list(request, OPERATION_FILTERS)
    found = controller.operations.list(asked.filters, asked.limit, asked.marker)
    link_next(request, response, asked, found, "id")
    return respond_list(Operation, found, response)


@router.get(
    "/iaas/operations/{id}",
    dependencies=[Depends(takes())],
    response_model=Operation,
    responses={304: {"description": "it is as the ETag says"}, **documented(UnknownFilter, NotFound)},
)
def show_operation(
    id: str,
    response: Response,
    server: Server,
    patience: Looking,
    if_none_match: Annotated[
        str | None, Header(description="the ETag of what is known: answer when it changed")
    ] = None,
) -> Response:
    """Show one operation; with `Prefer: wait=N`, once it has finished or, given its ETag, once it has changed."""
    operation = server.controller.operations.get(id)
    known = _read_tags(if_none_match or "")
    if operation.updated_at in known and operation.finished_at is None:
        operation = server.changed(operation, operation.updated_at, patience, response)
    elif not known:
        operation = server.finished(operation, patience, response)
    response.headers["ETag"] = f'"{to_wire(operation.updated_at)}"'
    if operation.updated_at in known:
        return Response(status_code=304, headers=dict(response.headers))
    return respond(Operation, operation, response)


def _read_tags(header: str) -> set[datetime]:
    """The moments that an If-None-Match names (RFC 9110 section 13.1.2); what is no tag of ours matches nothing."""
    found = set()
    for text in _TAG.findall(header[:1000]):
        try:
            found.add(from_wire(text))
        except ValueError:
            continue
    return found
