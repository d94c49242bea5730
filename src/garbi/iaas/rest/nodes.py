"""/iaas/nodes: the hosts of the cloud, how they join it and how they leave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response

from garbi.base.documents import fields_of
from garbi.base.errors import (
    AlreadyExists,
    AlreadyInState,
    Busy,
    Conflict,
    FenceFailed,
    InvalidField,
    MalformedRequest,
    NotFound,
    NotLeading,
    UnknownFilter,
    UnsupportedMedia,
)
from garbi.iaas.controller import Controller
from garbi.iaas.loops.foresight import WhatIf
from garbi.iaas.model.node import Node, NodeChange, NodeSpec, Overcommit, Ssh
from garbi.iaas.model.power import PowerChange
from garbi.iaas.model.query import NODE_FILTERS
from garbi.iaas.rest.state import ControllerOf
from garbi.iaas_api import nodes as wire
from garbi.iaas_api import placement, requests
from garbi.web.answers import respond, respond_list
from garbi.web.listing import link_next, parameters, read_list, takes
from garbi.web.problems import documented

router = APIRouter(tags=["nodes"])
no_query = [Depends(takes())]


@router.get(
    "/iaas/nodes",
    response_model=list[wire.Node],
    responses=documented(UnknownFilter, InvalidField),
    openapi_extra=parameters(NODE_FILTERS),
)
def list_nodes(request: Request, response: Response, controller: ControllerOf) -> Response:
    """List the nodes, by name."""
    asked = read_list(request, NODE_FILTERS)
    nodes = controller.nodes.list(asked.filters, asked.limit, asked.marker)
    machines, drained = controller.nodes.machines_on_each(), controller.nodes.drained_on_each()
    found = [describe(node, machines.get(node.name, 0), drained.get(node.name, [])) for node in nodes]
    link_next(request, response, asked, found, "name")
    return respond_list(wire.Node, found, response)


@router.get(
    "/iaas/nodes/{name}",
    response_model=wire.Node,
    dependencies=no_query,
    responses=documented(UnknownFilter, NotFound),
)
def show_node(name: str, controller: ControllerOf) -> Response:
    """Show one node."""
    return _answer(controller, controller.nodes.get(name))


@router.post(
    "/iaas/nodes",
    status_code=202,
    response_model=wire.Node,
    dependencies=no_query,
    responses=documented(
        MalformedRequest, UnknownFilter, AlreadyExists, Conflict, UnsupportedMedia, InvalidField, Busy
    ),
)
def add_node(body: requests.NodeRequest, response: Response, controller: ControllerOf) -> Response:
    """Begin to make a host a node; the operation says how far that is. A failed node is tried again."""
    node = controller.nodes.add(read_spec(body, controller.settings.overcommit), body.token)
    response.headers["Location"] = f"/iaas/nodes/{node.name}"
    _name_operation(response, node)
    return _answer(controller, node, response, 202)


@router.put(
    "/iaas/nodes/{name}",
    response_model=wire.Node,
    dependencies=no_query,
    responses={
        202: {"description": "It has begun; the operation says how far it is", "model": wire.Node},
        **documented(
            MalformedRequest, UnknownFilter, NotFound, AlreadyInState, Conflict, UnsupportedMedia, InvalidField
        ),
    },
)
def wish_node(name: str, body: requests.NodeWishRequest, response: Response, controller: ControllerOf) -> Response:
    """Drain a node, let it take machines again, or confirm that an unreachable one is dead."""
    nodes = controller.nodes
    verbs = {"draining": nodes.drain, "ready": nodes.undrain, "unavailable": nodes.confirm_dead}
    before = nodes.get(name).operation
    node = verbs[body.state](name)
    begun = node.operation != before
    if begun:
        _name_operation(response, node)
    return _answer(controller, node, response, 202 if begun else 200)


@router.patch(
    "/iaas/nodes/{name}",
    response_model=wire.Node,
    dependencies=no_query,
    responses=documented(MalformedRequest, UnknownFilter, NotFound, UnsupportedMedia, InvalidField),
)
def change_node(name: str, body: requests.NodeChangeRequest, controller: ControllerOf) -> Response:
    """Have something of a node otherwise: the token that its hyper has by now, or how its host is switched off."""
    return _answer(controller, controller.nodes.change(name, read_change(body)))


@router.post(
    "/iaas/nodes/{name}/test-fence",
    response_model=wire.FenceTrial,
    dependencies=no_query,
    responses=documented(UnknownFilter, NotFound, FenceFailed),
)
def test_fence(name: str, controller: ControllerOf) -> Response:
    """Ask the fence agent of a node for all but `off`: whether it works, and switches this node and no other."""
    return respond(wire.FenceTrial, controller.nodes.test_fence(name))


@router.get(
    "/iaas/nodes/{name}/what-if",
    response_model=placement.WhatIf,
    dependencies=no_query,
    responses=documented(UnknownFilter, NotFound, NotLeading),
)
def foresee_death(name: str, controller: ControllerOf) -> Response:
    """Tell what would follow if the node died now: which fence could prove it and when, what would move where, and why not."""
    return respond(placement.WhatIf, foreseen(controller.what_if(name)))


@router.delete(
    "/iaas/nodes/{name}",
    status_code=202,
    response_model=wire.Node,
    dependencies=[Depends(takes("force"))],
    responses=documented(UnknownFilter, NotFound, Conflict, InvalidField),
)
def remove_node(
    name: str,
    response: Response,
    controller: ControllerOf,
    force: Annotated[bool, Query(description="remove the machines of the node with it")] = False,
) -> Response:
    """Begin to remove a node and to leave its host clean; while machines are there, only by `force`."""
    node = controller.nodes.remove(name, force)
    _name_operation(response, node)
    return _answer(controller, node, response, 202)


def _name_operation(response: Response, node: Node) -> None:
    if node.operation is not None:
        response.headers["Operation-Location"] = f"/iaas/operations/{node.operation}"


def read_change(body: requests.NodeChangeRequest) -> NodeChange:
    """What is wanted otherwise, as a value: what the request does not name stays."""
    given, power = body.model_fields_set, body.power
    return NodeChange(
        token=body.token if "token" in given else None,
        power=None if power is None else PowerChange(power.agent, power.options, power.secrets),
        no_power="power" in given and power is None,
    )


def read_spec(body: requests.NodeRequest, overcommit: Overcommit) -> NodeSpec:
    """What a request asks for as a value; what it says nothing of `overcommit` follows that of the controller."""
    host, port = read_address(body.address)
    asked = {name: value for name, value in body.overcommit if value is not None}
    return NodeSpec(
        name=body.name,
        host=host,
        port=port,
        provision=body.provision,
        ssh=Ssh(body.ssh.user, body.ssh.port, body.ssh.key_file, body.ssh.host_key),
        labels=body.labels,
        overcommit=replace(overcommit, **asked),
        witness=body.witness,
        live_restore=body.live_restore,
    )


def read_address(text: str) -> tuple[str, int]:
    """Host and port of `host:port`, where an IPv6 address has brackets; raises InvalidField."""
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or (":" in host) != bracketed or not (port.isascii() and port.isdigit() and 0 < int(port[:9]) < 65536):
        rule = "host:port, such as 10.0.0.5:8081"
        raise InvalidField("address", f"address {text[:80]!r} is not allowed: it takes {rule}", allowed=rule)
    return host.removeprefix("[").removesuffix("]"), int(port)


def _answer(
    controller: Controller, node: Node, prepared: Response | None = None, status: int | None = None
) -> Response:
    machines, drained = controller.nodes.machines_on(node.name), controller.nodes.drained_on_each()
    return respond(wire.Node, describe(node, machines, drained.get(node.name, [])), prepared, status)


def describe(node: Node, machines: int, drained: Sequence[str] = ()) -> wire.Node:
    """A node with so many machines, some of which its drain has stopped, as it travels."""
    return wire.Node(
        **fields_of(wire.NodeFacts, node),
        address=node.address,
        reason=node.words,
        capacity=node.has,
        use=node.reserved,
        machines=machines,
        drained=tuple(drained),
    )


def foreseen(found: WhatIf) -> placement.WhatIf:
    """What would follow, as it travels."""
    return placement.WhatIf(
        node=found.node.name,
        state=found.node.state,
        reason=found.node.words,
        summary=found.summary(),
        held=found.held,
        tried_after_s=found.tried_after_s,
        fences=tuple(
            placement.FenceProspect(each.fence, not each.why_not, each.why_not, each.covers, each.within_s)
            for each in found.fences
        ),
        machines=tuple(
            placement.MachineFate(
                each.id,
                each.lot,
                each.why,
                each.to,
                tuple(placement.Verdict(**fields_of(placement.Verdict, verdict)) for verdict in each.verdicts),
            )
            for each in found.machines
        ),
        beside=found.beside,
    )
