"""/iaas/audit, /iaas/health, /iaas/backup: whether the invariants hold, whether the controller works; a backup of it."""

from __future__ import annotations

from dataclasses import asdict

from fastapi import APIRouter, Depends, Request, Response

from garbi import __version__
from garbi.base.clock import to_wire
from garbi.base.errors import DatabaseDamaged, InvalidField, NoSpace, StorageFailed, UnknownFilter
from garbi.hyper_api.schemas import Violation
from garbi.iaas.rest.state import ControllerOf
from garbi.iaas_api import schemas
from garbi.web.listing import link_next, parameters, read_list, select, takes
from garbi.web.problems import documented

VIOLATION_FILTERS = ("invariant", "subject", "detail")

router = APIRouter(tags=["cloud"])


@router.get(
    "/iaas/audit", responses=documented(UnknownFilter, InvalidField), openapi_extra=parameters(VIOLATION_FILTERS)
)
def audit(request: Request, response: Response, controller: ControllerOf) -> list[Violation]:
    """Check the invariants now, here and on the nodes that answer, and list what breaks them; none in a healthy cloud."""
    asked = read_list(request, VIOLATION_FILTERS)
    found = select([Violation(**asdict(violation)) for violation in controller.audit()], asked, "subject")
    link_next(request, response, asked, found, "subject")
    return found


@router.post(
    "/iaas/backup",
    status_code=201,
    dependencies=[Depends(takes())],
    responses=documented(UnknownFilter, NoSpace, DatabaseDamaged),
)
def back_up(controller: ControllerOf) -> schemas.Backup:
    """Make a backup of the controller on its own disk: database and keys; the keys only where the database is on a server."""
    made = controller.backups.make()
    return schemas.Backup(
        path=str(made.path), size=made.size, made_at=to_wire(made.made_at), database=made.database, advice=made.advice
    )


@router.get(
    "/iaas/health",
    dependencies=[Depends(takes())],
    responses={503: {"description": "it does not", "model": schemas.Health}, **documented(UnknownFilter)},
)
def health(controller: ControllerOf, response: Response) -> schemas.Health:
    """Whether the controller does its work, and whether it is the one of several that leads."""
    if not controller.healthy():
        response.status_code = 503
        failure = controller.unwritable()
        return schemas.Health(
            status="failing",
            version=__version__,
            code=StorageFailed.code if failure else None,
            detail=failure or None,
            leads=False,
            term=0,
            leader="",
        )
    term, leader = controller.leadership.present()
    return schemas.Health(status="ok", version=__version__, leads=controller.leadership.leads, term=term, leader=leader)
