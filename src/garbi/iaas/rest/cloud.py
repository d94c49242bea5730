"""/iaas/audit, /iaas/health, /iaas/backup: whether the invariants hold, whether the controller works; a backup of it."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Request, Response

from garbi import __version__
from garbi.base.audit import Violation
from garbi.base.errors import DatabaseDamaged, InvalidField, NoSpace, StorageFailed, UnknownFilter
from garbi.iaas.rest.state import ControllerOf
from garbi.iaas_api.cloud import Backup, Health
from garbi.web.answers import respond, respond_list
from garbi.web.listing import link_next, parameters, read_list, select, takes
from garbi.web.problems import documented

VIOLATION_FILTERS = ("invariant", "subject", "detail")

router = APIRouter(tags=["cloud"])


@router.get(
    "/iaas/audit",
    response_model=list[Violation],
    responses=documented(UnknownFilter, InvalidField),
    openapi_extra=parameters(VIOLATION_FILTERS),
)
def audit(request: Request, response: Response, controller: ControllerOf) -> Response:
    """Check the invariants now, here and on the nodes that answer, and list what breaks them; none in a healthy cloud."""
    asked = read_list(request, VIOLATION_FILTERS)
    found = select(controller.audit(), asked, "subject")
    link_next(request, response, asked, found, "subject")
    return respond_list(Violation, found, response)


@router.post(
    "/iaas/backup",
    status_code=201,
    response_model=Backup,
    dependencies=[Depends(takes())],
    responses=documented(UnknownFilter, NoSpace, DatabaseDamaged),
)
def back_up(controller: ControllerOf) -> Response:
    """Make a backup of the controller on its own disk: database and keys; the keys only where the database is on a server."""
    return respond(Backup, controller.backups.make(), status=201)


@router.get(
    "/iaas/health",
    response_model=Health,
    dependencies=[Depends(takes())],
    responses={503: {"description": "it does not", "model": Health}, **documented(UnknownFilter)},
)
def health(controller: ControllerOf) -> Response:
    """Whether the controller does its work, and whether it is the one of several that leads."""
    if not controller.healthy():
        failure = controller.unwritable()
        code = StorageFailed.code if failure else None
        found = Health(
            status="failing", version=__version__, code=code, detail=failure or None, leads=False, term=0, leader=""
        )
        return respond(Health, found, status=503)
    term, leader = controller.leadership.present()
    leads = controller.leadership.leads
    return respond(Health, Health(status="ok", version=__version__, leads=leads, term=term, leader=leader))
